//! Traffic generator: real SIP and RTP over sockets.

fn main() {}
