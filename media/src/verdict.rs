//! What becomes of a packet: every one is forwarded, absorbed, or discarded by name.

/// The fate of one received datagram.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It leaves towards the other leg.
    Forward,
    /// It was for us, and our answer leaves to where it came from: a connectivity check (RFC 8445).
    Answer,
    /// It was for us, or only for us: a keepalive (RFC 6263), RTCP the other leg has no use for, a digit that
    /// goes on in another form, speech while a key is down, a handshake (RFC 5764).
    Absorb,
    /// It was dropped.
    Discard(Discard),
}

base::cases! {
    /// Why a packet was dropped.
    pub enum Discard {
        /// It arrived on a port that is none of ours.
        UnknownPort = "unknown_port",
        /// It arrived on a port no call uses now: late, or a scan.
        IdlePort = "idle_port",
        /// The endpoint has no plan yet.
        NoPlan = "no_plan",
        /// It was larger than a receive buffer.
        Truncated = "truncated",
        /// Too short to be what its first byte says.
        Short = "short",
        /// STUN (RFC 8489) to a leg without ICE, or of somebody who does not know the leg's password.
        Stun = "stun",
        /// A Binding request without a password, after as many as are answered a second (`stun_server`).
        StunRate = "stun_rate",
        /// DTLS (RFC 5764) to a leg whose keys do not come from it, or have come from it a while ago.
        Dtls = "dtls",
        /// DTLS while as much waits for its turn as may.
        DtlsBusy = "dtls_busy",
        /// ZRTP (RFC 6189), which we do not take part in.
        Zrtp = "zrtp",
        /// A TURN channel message (RFC 8656), which we do not take part in.
        Turn = "turn",
        /// A first byte that RFC 7983 assigns to nobody.
        NotRtp = "not_rtp",
        /// An RTP version other than 2 (RFC 3550 §5.1).
        BadVersion = "bad_version",
        /// RTP whose CSRC list, extension or padding does not fit its length (RFC 3550 §5.1).
        Malformed = "malformed",
        /// RTCP that is no valid compound packet (RFC 3550 A.2, RFC 5506).
        BadRtcp = "bad_rtcp",
        /// RTCP on the RTP port of a leg that did not negotiate rtcp-mux (RFC 5761).
        UnexpectedRtcp = "unexpected_rtcp",
        /// A datagram that is no UDPTL, to a leg whose media is T.38.
        BadUdptl = "bad_udptl",
        /// A telephone event without its four octets (RFC 4733 §2.3).
        BadEvent = "bad_event",
        /// Neither the leg's SDP address, nor one of its networks, nor one that may be learned now.
        WrongSource = "wrong_source",
        /// The leg is protected, and there are no keys yet.
        NoKeys = "no_keys",
        /// Its authentication tag is not its sender's (RFC 3711 §3.3): altered, forged, or under another key.
        Unauthentic = "unauthentic",
        /// Its index was used before, or is too far behind to tell (RFC 3711 §3.3.2).
        Replayed = "replayed",
        /// No room behind it for what protection adds.
        TooLong = "too_long",
        /// Every SRTCP index of the key was used (RFC 3711 §9.2).
        KeySpent = "key_spent",
        /// The plan does not take RTP from this leg (hold, or before the answer).
        NotReceiving = "not_receiving",
        /// No other leg is joined.
        NoPeer = "no_peer",
        /// The other leg's plan sends no RTP (hold).
        PeerNotSending = "peer_not_sending",
        /// The other leg has said no valid address to send to.
        NoRemote = "no_remote",
        /// A number that our own stream to the other leg has used: a packet that was doubled, or far too late.
        Repeated = "repeated",
    }
}
