//! SRTP of the calling side, by libsrtp2: an implementation that is not ours, so that what it opens was
//! sealed right. The library is opened when it is asked for (package libsrtp2-1).
#![allow(unsafe_code, reason = "a C library is called; what it is given is stated below")]

use std::ffi::{CStr, c_char, c_int, c_uint, c_ulong, c_void};
use std::ptr::{null, null_mut};
use std::sync::OnceLock;

/// The longest key with its salt, RFC 7714: 32 and 12 bytes.
pub(crate) const MAX_KEY: usize = 44;
/// What a packet may grow by.
const GROWTH: usize = 32;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A suite of algorithms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Suite {
    /// AES_CM_128_HMAC_SHA1_80
    Cm,
    /// AEAD_AES_128_GCM
    Gcm,
}

impl Suite {
    /// As `a=crypto` has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Suite::Cm => "AES_CM_128_HMAC_SHA1_80",
            Suite::Gcm => "AEAD_AES_128_GCM",
        }
    }

    fn key_len(self) -> usize {
        match self {
            Suite::Cm => 30,
            Suite::Gcm => 28,
        }
    }
}

/// A suite and a master key with its salt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    suite: Suite,
    bytes: [u8; MAX_KEY],
}

impl Key {
    /// The key of the callers: one for all, told apart by their sources.
    pub(crate) fn of_callers(suite: Suite) -> Key {
        Key { suite, bytes: core::array::from_fn(|i| (i * 37 + 11) as u8) }
    }

    /// The attribute that offers it.
    pub(crate) fn line(&self) -> String {
        let mut text = String::new();
        for chunk in self.bytes[..self.suite.key_len()].chunks(3) {
            let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte))
                << (8 * (3 - chunk.len()));
            for place in 0..4 {
                let letter = ALPHABET[(word >> (18 - 6 * place) & 63) as usize];
                text.push(if place <= chunk.len() { char::from(letter) } else { '=' });
            }
        }
        format!("a=crypto:1 {} inline:{text}\r\n", self.suite.name())
    }

    /// Reads the value of an `a=crypto:` line.
    pub(crate) fn read(value: &str) -> Option<Key> {
        let mut words = value.split(' ').skip(1);
        let (name, inline) = (words.next()?, words.next()?.strip_prefix("inline:")?);
        let suite = [Suite::Cm, Suite::Gcm].into_iter().find(|suite| suite.name() == name)?;
        let (mut bytes, mut len) = ([0; MAX_KEY], 0);
        let letters = inline.split('|').next()?.trim_end_matches('=').as_bytes();
        for chunk in letters.chunks(4) {
            let mut word = 0;
            for letter in chunk {
                word = word << 6 | ALPHABET.iter().position(|known| known == letter)? as u32;
            }
            word <<= 6 * (4 - chunk.len());
            for byte in word.to_be_bytes().into_iter().skip(1).take(chunk.len() - 1) {
                *bytes.get_mut(len)? = byte;
                len += 1;
            }
        }
        (len == suite.key_len()).then_some(Key { suite, bytes })
    }
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CryptoPolicy {
    words: [c_int; 6],
}

/// `srtp_policy_t` of libsrtp 2.
#[repr(C)]
struct Policy {
    ssrc_type: c_uint,
    ssrc: c_uint,
    rtp: CryptoPolicy,
    rtcp: CryptoPolicy,
    key: *const u8,
    keys: *const c_void,
    num_master_keys: c_ulong,
    deprecated_ekt: *const c_void,
    window_size: c_ulong,
    allow_repeat_tx: c_int,
    enc_xtn_hdr: *const c_int,
    enc_xtn_hdr_count: c_int,
    next: *const c_void,
}

type Set = unsafe extern "C" fn(*mut CryptoPolicy);
type Create = unsafe extern "C" fn(*mut *mut c_void, *const Policy) -> c_int;
type Apply = unsafe extern "C" fn(*mut c_void, *mut c_void, *mut c_int) -> c_int;
type Dealloc = unsafe extern "C" fn(*mut c_void) -> c_int;

/// The library.
struct Library {
    cm: Set,
    gcm: Set,
    create: Create,
    protect: Apply,
    unprotect: Apply,
    dealloc: Dealloc,
}

/// Looks a function up.
///
/// # Safety
///
/// `F` is the type of a function pointer, and that of the function called `name`.
unsafe fn symbol<F: Copy>(library: *mut c_void, name: &CStr) -> Result<F, String> {
    // SAFETY: `library` was opened and is never closed; `name` ends with a zero.
    let found = unsafe { libc::dlsym(library, name.as_ptr().cast::<c_char>()) };
    if found.is_null() {
        return Err(format!("libsrtp2 has no {}", name.to_string_lossy()));
    }
    assert_eq!(size_of::<F>(), size_of::<*mut c_void>());
    // SAFETY: the caller promises that this is a pointer to a function of that type.
    Ok(unsafe { std::mem::transmute_copy(&found) })
}

impl Library {
    fn get() -> Result<&'static Library, String> {
        static LIBRARY: OnceLock<Result<Library, String>> = OnceLock::new();
        LIBRARY.get_or_init(Library::open).as_ref().map_err(Clone::clone)
    }

    fn open() -> Result<Library, String> {
        // SAFETY: the name ends with a zero.
        let library = unsafe { libc::dlopen(c"libsrtp2.so.1".as_ptr(), libc::RTLD_NOW) };
        if library.is_null() {
            return Err("libsrtp2.so.1 is missing (Debian package libsrtp2-1)".to_owned());
        }
        // SAFETY: `int srtp_init(void)`.
        let init: unsafe extern "C" fn() -> c_int = unsafe { symbol(library, c"srtp_init") }?;
        // SAFETY: called once, before anything else of the library.
        if unsafe { init() } != 0 {
            return Err("libsrtp2 does not start".to_owned());
        }
        Ok(Library {
            // SAFETY: `void srtp_crypto_policy_set_rtp_default(srtp_crypto_policy_t *)`.
            cm: unsafe { symbol(library, c"srtp_crypto_policy_set_rtp_default") }?,
            // SAFETY: the same type.
            gcm: unsafe { symbol(library, c"srtp_crypto_policy_set_aes_gcm_128_16_auth") }?,
            // SAFETY: `srtp_err_status_t srtp_create(srtp_t *, const srtp_policy_t *)`.
            create: unsafe { symbol(library, c"srtp_create") }?,
            // SAFETY: `srtp_err_status_t srtp_protect(srtp_t, void *, int *)`.
            protect: unsafe { symbol(library, c"srtp_protect") }?,
            // SAFETY: the same type.
            unprotect: unsafe { symbol(library, c"srtp_unprotect") }?,
            // SAFETY: `srtp_err_status_t srtp_dealloc(srtp_t)`.
            dealloc: unsafe { symbol(library, c"srtp_dealloc") }?,
        })
    }
}

/// One direction under one key.
pub(crate) struct Session {
    library: &'static Library,
    session: *mut c_void,
}

impl Session {
    /// For packets we send, or for packets we hear.
    pub(crate) fn new(key: &Key, outbound: bool) -> Result<Session, String> {
        let library = Library::get()?;
        let mut crypto = CryptoPolicy::default();
        let set = match key.suite {
            Suite::Cm => library.cm,
            Suite::Gcm => library.gcm,
        };
        // SAFETY: a valid place for one policy.
        unsafe { set(&mut crypto) };
        let policy = Policy {
            ssrc_type: if outbound { 3 } else { 2 },
            ssrc: 0,
            rtp: crypto,
            rtcp: crypto,
            key: key.bytes.as_ptr(),
            keys: null(),
            num_master_keys: 0,
            deprecated_ekt: null(),
            window_size: 128,
            allow_repeat_tx: 0,
            enc_xtn_hdr: null(),
            enc_xtn_hdr_count: 0,
            next: null(),
        };
        let mut session = null_mut();
        // SAFETY: the policy is whole and its key as long as its suite's; the library copies both.
        let failed = unsafe { (library.create)(&mut session, &policy) };
        if failed != 0 {
            return Err(format!("libsrtp2 refuses the policy: {failed}"));
        }
        Ok(Session { library, session })
    }

    /// Protects a packet.
    pub(crate) fn protect(&self, packet: &mut Vec<u8>) -> bool {
        self.apply(self.library.protect, packet)
    }

    /// Opens a packet; false when it is not authentic, or was heard before.
    pub(crate) fn unprotect(&self, packet: &mut Vec<u8>) -> bool {
        self.apply(self.library.unprotect, packet)
    }

    fn apply(&self, function: Apply, packet: &mut Vec<u8>) -> bool {
        let mut len = packet.len() as c_int;
        packet.resize(packet.len() + GROWTH, 0);
        // SAFETY: the session lives as long as `self`; the packet has room for what is added.
        let failed = unsafe { function(self.session, packet.as_mut_ptr().cast(), &mut len) };
        packet.truncate(len as usize);
        failed == 0
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: made by `srtp_create`, and not used after this.
        let _status = unsafe { (self.library.dealloc)(self.session) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_and_read() {
        for suite in [Suite::Cm, Suite::Gcm] {
            let key = Key::of_callers(suite);
            let line = key.line();
            let read = Key::read(line.trim_end().strip_prefix("a=crypto:").unwrap()).unwrap();
            assert_eq!(read.bytes[..suite.key_len()], key.bytes[..suite.key_len()]);
        }
        assert_eq!(Key::read("1 AES_CM_128_HMAC_SHA1_32 inline:AAAA"), None);
    }
}
