//! DWARF expressions: the few rules that are more than a register and an offset.

use gimli::{
    Encoding, EndianSlice, Evaluation, EvaluationResult, EvaluationStorage, Format, LittleEndian, Location,
    Piece, Register, Value,
};
use vmc::{VirtAddr, VirtualMemory};

use crate::cfi::AddressSize;

/// Why an expression has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// It is malformed, or took more steps or stack than are allowed.
    #[error("the expression is malformed: {0}")]
    Malformed(gimli::Error),
    /// It reads memory that is not to be had.
    #[error("the expression reads {0}, which is not resident")]
    NotResident(VirtAddr),
    /// It asks for a register that is not known in this frame.
    #[error("the expression asks for register {0}, which is not known")]
    UnknownRegister(u16),
    /// It asks for what only a debugger has: thread-local storage, entry values, other expressions, types.
    #[error("the expression asks for more than registers and memory")]
    Unsupported,
}

type Reader<'e> = EndianSlice<'e, LittleEndian>;

/// Everything on the stack: no expression of call frame information needs more.
struct Fixed;

impl<'e> EvaluationStorage<Reader<'e>> for Fixed {
    type Stack = [Value; 64];
    type ExpressionStack = [(Reader<'e>, Reader<'e>); 1];
    type Result = [Piece<Reader<'e>>; 1];
}

/// Evaluates `bytes`, with `initial` on the stack, in at most `steps` operations. Values wrap at `size`.
///
/// # Errors
/// [`ExpressionError`]: what it asked for in vain.
pub fn evaluate<V: VirtualMemory + ?Sized>(
    bytes: &[u8],
    size: AddressSize,
    initial: Option<u64>,
    register: impl Fn(Register) -> Option<u64>,
    memory: &V,
    steps: u32,
) -> Result<u64, ExpressionError> {
    let bytes = EndianSlice::new(bytes, LittleEndian);
    let encoding = Encoding { address_size: size.bytes(), format: Format::Dwarf32, version: 5 };
    let mut evaluation = Evaluation::<_, Fixed>::new_in(bytes, encoding);
    evaluation.set_max_iterations(steps);
    if let Some(initial) = initial {
        evaluation.set_initial_value(initial);
    }
    let mut result = evaluation.evaluate();
    loop {
        result = match result.map_err(ExpressionError::Malformed)? {
            EvaluationResult::Complete => break,
            EvaluationResult::RequiresMemory { address, size, space: None, base_type }
                if base_type.0 == 0 =>
            {
                let value = read(memory, VirtAddr::new(address), size)?;
                evaluation.resume_with_memory(Value::Generic(value))
            }
            EvaluationResult::RequiresRegister { register: number, base_type } if base_type.0 == 0 => {
                let value = register(number).ok_or(ExpressionError::UnknownRegister(number.0))?;
                evaluation.resume_with_register(Value::Generic(value))
            }
            _ => return Err(ExpressionError::Unsupported),
        };
    }
    match evaluation.as_result() {
        [Piece { location: Location::Address { address }, size_in_bits: None, .. }] => Ok(*address),
        _ => Err(ExpressionError::Unsupported),
    }
}

fn read<V: VirtualMemory + ?Sized>(memory: &V, at: VirtAddr, size: u8) -> Result<u64, ExpressionError> {
    let mut bytes = [0; 8];
    let part = bytes.get_mut(..usize::from(size)).ok_or(ExpressionError::Unsupported)?;
    memory.read(at, part).map_err(|error| ExpressionError::NotResident(error.addr))?;
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_memory::Words;
    use gimli::constants as dw;

    fn run(bytes: &[u8]) -> Result<u64, ExpressionError> {
        let memory = Words::new(0x1000, &[0x1122_3344_5566_7788, 0x2000]);
        let register = |register: Register| (register.0 == 7).then_some(0x1000);
        evaluate(bytes, AddressSize::Eight, Some(0x10), register, &memory, 100)
    }

    #[test]
    fn registers_memory_and_arithmetic() {
        assert_eq!(run(&[dw::DW_OP_breg7.0, 8, dw::DW_OP_deref.0, dw::DW_OP_plus.0]), Ok(0x2010));
        assert_eq!(run(&[dw::DW_OP_breg7.0, 0, dw::DW_OP_deref_size.0, 2]), Ok(0x7788));
        // What ld writes for .plt: CFA = rsp + 8 + ((rip & 15) >= 11) * 8, here with rax for rip.
        assert_eq!(run(&[dw::DW_OP_lit5.0, dw::DW_OP_lit3.0, dw::DW_OP_shl.0, dw::DW_OP_plus.0]), Ok(0x38));
    }

    #[test]
    fn values_wrap_where_addresses_do() {
        let memory = Words::new(0x1000, &[]);
        let bytes = [dw::DW_OP_lit1.0, dw::DW_OP_plus.0];
        let wrapped = |size| evaluate(&bytes, size, Some(0xffff_ffff), |_| None, &memory, 100);
        assert_eq!(wrapped(AddressSize::Four), Ok(0));
        assert_eq!(wrapped(AddressSize::Eight), Ok(1 << 32));
    }

    #[test]
    fn what_is_not_there_is_named() {
        assert_eq!(run(&[dw::DW_OP_breg6.0, 0]), Err(ExpressionError::UnknownRegister(6)));
        let beyond = run(&[dw::DW_OP_breg7.0, 12, dw::DW_OP_deref.0]);
        assert_eq!(beyond, Err(ExpressionError::NotResident(VirtAddr::new(0x100c))));
        assert_eq!(run(&[dw::DW_OP_call_frame_cfa.0]), Err(ExpressionError::Unsupported));
        assert_eq!(run(&[dw::DW_OP_reg3.0]), Err(ExpressionError::Unsupported));
        assert_eq!(run(&[dw::DW_OP_lit0.0, dw::DW_OP_stack_value.0]), Err(ExpressionError::Unsupported));
    }

    #[test]
    fn endless_and_greedy_expressions_end() {
        // skip -3: itself.
        assert!(matches!(run(&[dw::DW_OP_skip.0, 0xfd, 0xff]), Err(ExpressionError::Malformed(_))));
        // dup, and back to it.
        assert!(matches!(
            run(&[dw::DW_OP_dup.0, dw::DW_OP_skip.0, 0xfc, 0xff]),
            Err(ExpressionError::Malformed(_))
        ));
        assert!(matches!(run(&[dw::DW_OP_drop.0, dw::DW_OP_drop.0]), Err(ExpressionError::Malformed(_))));
    }
}
