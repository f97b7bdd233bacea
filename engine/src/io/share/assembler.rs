//! Just enough of an assembler to write a BPF program as a list of statements with forward jumps.
//!
//! Registers, memory and helper calls as in the kernel's Documentation/bpf; nothing about what the
//! program is for.

use std::os::fd::RawFd;

/// One instruction, as the kernel reads it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// A register. Calls take arguments in 1 to 5, return in 0 and keep 6 to 9; 10 is the stack's top.
#[derive(Copy, Clone)]
pub(super) struct R(pub(super) u8);

/// How two values are compared, unsigned.
#[derive(Copy, Clone)]
pub(super) enum If {
    Greater = 0x20,
    Different = 0x50,
    Less = 0xa0,
    LessOrEqual = 0xb0,
}

/// A place that jumps lead to before it is known where it stands.
#[derive(Default)]
pub(super) struct Label {
    jumps: Vec<usize>,
}

/// Added to the code of a load or store of 32 bits to make it one of 64.
const DOUBLE: u8 = 0x18;

/// The statements so far.
#[derive(Default)]
pub(super) struct Assembler {
    program: Vec<Instruction>,
}

impl Assembler {
    /// The program, once every label has been put somewhere.
    pub(super) fn finish(self) -> Vec<Instruction> {
        self.program
    }

    fn push(&mut self, code: u8, to: R, from: R, offset: i16, immediate: i32) {
        let registers = to.0 | from.0 << 4;
        self.program.push(Instruction { code, registers, offset, immediate });
    }

    /// `to = from`
    pub(super) fn copy(&mut self, to: R, from: R) {
        self.push(0xbf, to, from, 0, 0);
    }

    /// `to = value`
    pub(super) fn set(&mut self, to: R, value: i32) {
        self.push(0xb7, to, R(0), 0, value);
    }

    /// `to += value`
    pub(super) fn add(&mut self, to: R, value: i32) {
        self.push(0x07, to, R(0), 0, value);
    }

    /// `to -= from`
    pub(super) fn subtract(&mut self, to: R, from: R) {
        self.push(0x1f, to, from, 0, 0);
    }

    /// `to >>= bits`
    pub(super) fn shift_right(&mut self, to: R, bits: i32) {
        self.push(0x77, to, R(0), 0, bits);
    }

    /// `to %= value`
    pub(super) fn modulo(&mut self, to: R, value: i32) {
        self.push(0x97, to, R(0), 0, value);
    }

    /// `to = *(u32 *)(from + offset)`
    pub(super) fn load_word(&mut self, to: R, from: R, offset: i16) {
        self.push(0x61, to, from, offset, 0);
    }

    /// `to = *(u64 *)(from + offset)`
    pub(super) fn load_double(&mut self, to: R, from: R, offset: i16) {
        self.push(0x61 | DOUBLE, to, from, offset, 0);
    }

    /// `*(u32 *)(to + offset) = from`
    pub(super) fn store_word(&mut self, to: R, offset: i16, from: R) {
        self.push(0x63, to, from, offset, 0);
    }

    /// `*(u64 *)(to + offset) = from`
    pub(super) fn store_double(&mut self, to: R, offset: i16, from: R) {
        self.push(0x63 | DOUBLE, to, from, offset, 0);
    }

    /// `*(u64 *)to += from`, atomically
    pub(super) fn count(&mut self, to: R, from: R) {
        self.push(0xc3 | DOUBLE, to, from, 0, 0);
    }

    /// `to = map`
    pub(super) fn map(&mut self, to: R, map: RawFd) {
        // A map's descriptor takes two instructions and is marked as such in the source register.
        self.push(0x18, to, R(1), 0, map);
        self.push(0, R(0), R(0), 0, 0);
    }

    /// Calls one of the kernel's helpers by number.
    pub(super) fn call(&mut self, helper: i32) {
        self.push(0x85, R(0), R(0), 0, helper);
    }

    /// Returns register 0.
    pub(super) fn exit(&mut self) {
        self.push(0x95, R(0), R(0), 0, 0);
    }

    /// Goes to `label` when `left` compares so with `right`, as 64-bit values.
    pub(super) fn jump_if(&mut self, left: R, how: If, right: R, label: &mut Label) {
        label.jumps.push(self.program.len());
        self.push(0x0d | how as u8, left, right, 0, 0);
    }

    /// Goes to `label` when the lower half of `left` compares so with `right`.
    pub(super) fn jump_if_word(&mut self, left: R, how: If, right: i32, label: &mut Label) {
        label.jumps.push(self.program.len());
        self.push(0x06 | how as u8, left, R(0), 0, right);
    }

    /// Goes to `label` when the pointer in `left` is null.
    pub(super) fn jump_if_null(&mut self, left: R, label: &mut Label) {
        label.jumps.push(self.program.len());
        self.push(0x15, left, R(0), 0, 0);
    }

    /// Goes to `label`.
    pub(super) fn jump(&mut self, label: &mut Label) {
        label.jumps.push(self.program.len());
        self.push(0x05, R(0), R(0), 0, 0);
    }

    /// Here is where jumps to `label` lead.
    pub(super) fn put(&mut self, label: Label) {
        let here = self.program.len();
        for jump in label.jumps {
            if let Some(instruction) = self.program.get_mut(jump) {
                instruction.offset = (here - jump - 1) as i16;
            }
        }
    }
}
