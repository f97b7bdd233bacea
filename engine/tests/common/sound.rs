//! Sound that tells who is heard: a tone a side, and how much of it arrived.

use super::within;
use std::f64::consts::TAU;
use std::path::Path;
use std::time::Duration;

const RATE: u32 = 8000;

/// A WAV file of two minutes of one frequency, 16 bits, mono.
pub(crate) fn tone(path: &Path, hertz: f64) {
    let samples = (0..RATE * 120).map(|n| {
        let value = (TAU * hertz * f64::from(n) / f64::from(RATE)).sin() * 12_000.0;
        (value as i16).to_le_bytes()
    });
    let data: Vec<u8> = samples.flatten().collect();
    let mut file = b"RIFF".to_vec();
    file.extend_from_slice(&(36 + data.len() as u32).to_le_bytes());
    file.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    file.extend_from_slice(&RATE.to_le_bytes());
    file.extend_from_slice(&(RATE * 2).to_le_bytes());
    file.extend_from_slice(b"\x02\0\x10\0data");
    file.extend_from_slice(&(data.len() as u32).to_le_bytes());
    file.extend_from_slice(&data);
    std::fs::write(path, file).unwrap();
}

/// The samples of a WAV file whose header may not have been completed, and how many of them are a second.
pub(crate) fn samples(path: &Path) -> (Vec<f64>, u32) {
    let bytes = std::fs::read(path).unwrap();
    let rate = bytes.get(24..28).map_or(RATE, |b| u32::from_le_bytes(b.try_into().unwrap()));
    let data = bytes.windows(4).position(|w| w == b"data").map_or(44, |at| at + 8);
    let pairs = bytes.get(data..).unwrap_or_default().as_chunks::<2>().0;
    (pairs.iter().map(|pair| f64::from(i16::from_le_bytes(*pair))).collect(), rate)
}

/// The share of a signal's power that one frequency has (Goertzel), 0 to 1.
pub(crate) fn share(samples: &[f64], rate: u32, hertz: f64) -> f64 {
    let turn = 2.0 * (TAU * hertz / f64::from(rate)).cos();
    let (mut last, mut before) = (0.0, 0.0);
    for sample in samples {
        (last, before) = (sample + turn * last - before, last);
    }
    let power = last * last + before * before - turn * last * before;
    let total: f64 = samples.iter().map(|s| s * s).sum();
    power * 2.0 / (total.max(1.0) * samples.len().max(1) as f64)
}

/// Waits until a second of what is heard, away from its beginning, has `wanted` most of all and nothing of
/// `other`; or says what it has.
pub(crate) fn await_tone(
    heard: impl Fn() -> Option<(Vec<f64>, u32)>,
    wanted: f64,
    other: f64,
) -> Result<(), String> {
    let found = within(Duration::from_secs(20), || {
        let (heard, rate) = heard()?;
        let second = rate as usize;
        let middle = heard.len().checked_sub(2 * second).map(|at| &heard[at..at + second])?;
        (share(middle, rate, wanted) > 0.8 && share(middle, rate, other) < 0.01).then_some(())
    });
    found.ok_or_else(|| {
        let (heard, rate) = heard().unwrap_or((Vec::new(), RATE));
        let has = share(&heard, rate, wanted);
        format!("{} samples at {rate} Hz, {wanted} Hz has {has:.3}", heard.len())
    })
}
