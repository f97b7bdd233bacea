//! Session descriptions (RFC 8866) in offers and answers (RFC 3264).
