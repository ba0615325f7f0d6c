//! Rows: how a caller's registers follow from a callee's, at one address.

use core::ops::Range;

use gimli::Register;

use super::table::RawRow;

/// How many columns a row has: aarch64's 31 general registers, stack pointer and program counter; the others have fewer.
pub(crate) const COLUMNS: usize = 33;

/// Where in `.eh_frame` a DWARF expression lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpressionAt {
    /// Its first byte, from the start of the section.
    pub offset: u32,
    /// Its length in bytes.
    pub length: u32,
}

/// How the canonical frame address is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CfaRule {
    /// A register's value and an offset.
    RegisterAndOffset {
        /// The register.
        register: Register,
        /// What is added to its value.
        offset: i64,
    },
    /// What an expression yields.
    Expression(ExpressionAt),
}

/// How a caller's register is recovered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RegisterRule {
    /// No rule: what the ABI says. A callee-saved register keeps its value, the stack pointer becomes the CFA, any other
    /// is lost.
    #[default]
    Unspecified,
    /// It cannot be recovered. For the return address: there is no caller.
    Undefined,
    /// It keeps its value.
    SameValue,
    /// It is stored at the CFA plus this.
    Offset(i64),
    /// It is the CFA plus this.
    ValOffset(i64),
    /// It is in another register.
    Register(Register),
    /// It is stored at the address that an expression yields; the CFA is on the expression's stack.
    Expression(ExpressionAt),
    /// It is what an expression yields; the CFA is on the expression's stack.
    ValExpression(ExpressionAt),
}

/// All rules for one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The addresses that the row holds for.
    pub range: Range<u64>,
    /// The function (what one FDE covers) that it belongs to.
    pub function: Range<u64>,
    /// How the CFA is computed.
    pub cfa: CfaRule,
    /// How the return address is recovered.
    pub return_address: RegisterRule,
    /// Was the caller interrupted by a signal rather than calling?
    pub signal_frame: bool,
    pub(crate) registers: [RegisterRule; COLUMNS],
}

impl Row {
    /// The address at which the function begins.
    #[must_use]
    pub const fn function_start(&self) -> u64 {
        self.function.start
    }

    /// The rule for a register, by its DWARF number. Registers that are not tracked have none.
    #[must_use]
    pub fn register(&self, register: Register) -> RegisterRule {
        self.registers.get(usize::from(register.0)).copied().unwrap_or_default()
    }

    /// The registers that have a rule, in the order of their numbers.
    pub fn registers(&self) -> impl Iterator<Item = (Register, RegisterRule)> + '_ {
        let all = (0u16..).map(Register).zip(self.registers);
        all.filter(|(_, rule)| *rule != RegisterRule::Unspecified)
    }

    pub(crate) fn new(
        row: &RawRow,
        function: Range<u64>,
        return_column: Register,
        signal_frame: bool,
    ) -> Option<Self> {
        let cfa = match row.cfa() {
            gimli::CfaRule::RegisterAndOffset { register, offset } => {
                CfaRule::RegisterAndOffset { register: *register, offset: *offset }
            }
            gimli::CfaRule::Expression(expression) => CfaRule::Expression(at(expression)?),
        };
        let mut registers = [RegisterRule::Unspecified; COLUMNS];
        let mut return_address = RegisterRule::Unspecified;
        for (register, rule) in row.registers() {
            let rule = translate(rule)?;
            if *register == return_column {
                return_address = rule;
            }
            if let Some(place) = registers.get_mut(usize::from(register.0)) {
                *place = rule;
            }
        }
        let range = row.start_address()..row.end_address();
        Some(Self { range, function, cfa, return_address, signal_frame, registers })
    }
}

fn at(expression: &gimli::UnwindExpression<usize>) -> Option<ExpressionAt> {
    let offset = u32::try_from(expression.offset).ok()?;
    Some(ExpressionAt { offset, length: u32::try_from(expression.length).ok()? })
}

fn translate(rule: &gimli::RegisterRule<usize>) -> Option<RegisterRule> {
    Some(match rule {
        gimli::RegisterRule::Undefined => RegisterRule::Undefined,
        gimli::RegisterRule::SameValue => RegisterRule::SameValue,
        gimli::RegisterRule::Offset(offset) => RegisterRule::Offset(*offset),
        gimli::RegisterRule::ValOffset(offset) => RegisterRule::ValOffset(*offset),
        gimli::RegisterRule::Register(register) => RegisterRule::Register(*register),
        gimli::RegisterRule::Expression(expression) => RegisterRule::Expression(at(expression)?),
        gimli::RegisterRule::ValExpression(expression) => RegisterRule::ValExpression(at(expression)?),
        // Constants are aarch64's state of signing, which is nobody's rule here: signatures are taken off in any case.
        gimli::RegisterRule::Architectural | gimli::RegisterRule::Constant(_) => RegisterRule::Unspecified,
    })
}
