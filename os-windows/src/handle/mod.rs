//! Open handles, and the objects behind them.

mod names;
mod object;
mod table;

pub(crate) use object::ObjectFields;
pub(crate) use table::Table;

use alloc::vec::Vec;

use vmc::view::RowErrors;

use crate::error::WindowsError;
use crate::process::Process;
use crate::rows::HandleRow;

impl<'w> Process<'w> {
    /// Its open handles, in their order. What is wrong with the table is among them, as errors.
    pub fn handles(&self) -> impl Iterator<Item = Result<HandleRow, WindowsError>> + use<'w> {
        let mut rows = Vec::new();
        if let Err(error) = self.find_handles(&mut rows) {
            rows.push(Err(error));
        }
        rows.into_iter()
    }

    fn find_handles(&self, rows: &mut Vec<Result<HandleRow, WindowsError>>) -> Result<(), WindowsError> {
        let windows = self.windows;
        let Some(field) = windows.process_fields()?.object_table else { return Ok(()) };
        let table =
            field.pointer(windows.kernel(), self.object()).map_err(WindowsError::read("ObjectTable"))?;
        if table.is_null() {
            return Ok(());
        }
        let objects = object::Objects::new(windows)?;
        for entry in Table::new(windows, table)? {
            rows.push(entry.map(|entry| {
                // The table points at the object's header, the rows' readers know its body.
                let header = entry.object;
                let body = objects.body(header);
                let mut errors = RowErrors::default();
                let kind = errors.keep(windows.limits(), "type", objects.kind(header));
                let name = objects.name(kind.as_deref(), body);
                let name = errors.keep(windows.limits(), "name", name).flatten();
                HandleRow {
                    pid: self.pid(),
                    handle: entry.handle,
                    kind,
                    object: body,
                    access: entry.access,
                    name,
                    errors,
                }
            }));
        }
        Ok(())
    }
}
