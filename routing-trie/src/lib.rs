//! Digit tries for prefix routing.
#![allow(missing_docs)]
#[derive(Debug, Default, Clone)] pub struct Trie(pub Vec<(Vec<u8>, u32)>);
impl Trie { pub fn longest(&self, d: &[u8]) -> Option<u32> { self.0.iter().filter(|(p,_)| d.starts_with(p)).max_by_key(|(p,_)| p.len()).map(|x| x.1) } }
#[derive(Debug, Clone, Default, PartialEq, Eq)] pub struct Rewrite { pub strip: u8, pub prepend: Vec<u8> }
#[derive(Debug, Clone, PartialEq, Eq)] pub struct Number(pub Vec<u8>);
impl Number { pub fn new(d: &[u8]) -> Option<Number> { Some(Number(d.to_vec())) } pub fn digits(&self) -> &[u8] { self.0.strip_prefix(b"+").unwrap_or(&self.0) } pub fn as_bytes(&self) -> &[u8] { &self.0 } }
impl Rewrite { pub fn apply(&self, n: &Number) -> Option<Number> { let d = n.0.get(usize::from(self.strip)..)?; Some(Number([&self.prepend[..], d].concat())) } }
pub struct Share { pub priority: u16, pub weight: u16 }
pub fn order(s: &mut [Share], _draw: u64) -> Vec<usize> { let mut v: Vec<usize> = (0..s.len()).collect(); v.sort_by_key(|i| s[*i].priority); v }
