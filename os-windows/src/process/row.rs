//! [`ProcessRow`]: what is known of a process, in part where parts are missing.

use alloc::string::String;

use vmc::layout::{Field, Types};
use vmc::view::RowErrors;
use vmc::{ReadExt, VirtAddr};

use super::user::is_user;
use super::{Found, Process, root_of};
use crate::error::WindowsError;
use crate::fields::{ProcessFields, Wow64};
use crate::rows::ProcessRow;
use crate::text::{from_file_time, unicode_string};

/// Reads optional fields; what fails is remembered.
struct Reader<'r, 'w> {
    process: &'r Process<'w>,
    errors: RowErrors,
}

impl Reader<'_, '_> {
    fn keep<T>(&mut self, what: &str, result: Result<T, WindowsError>) -> Option<T> {
        self.errors.keep(self.process.windows.limits(), what, result)
    }

    fn get<T: bytemuck::Pod>(&mut self, what: &'static str, field: Option<Field<T>>) -> Option<T> {
        let value = field?.read(self.process.windows.kernel(), self.process.object());
        self.keep(what, value.map_err(WindowsError::read(what)))
    }
}

pub(super) fn row(process: &Process<'_>) -> ProcessRow {
    let mut row = ProcessRow {
        pid: process.pid(),
        object: process.object(),
        on_list: process.found() != Found::Table,
        ..ProcessRow::default()
    };
    let mut read = Reader { process, errors: RowErrors::default() };
    let name = process.name();
    row.name = read.keep("name", name).unwrap_or_default();
    row.page_table = read.keep("page table", process.page_table());
    let fields = match process.windows.process_fields() {
        Ok(fields) => fields,
        Err(error) => {
            read.keep::<()>("process", Err(error));
            row.errors = read.errors;
            return row;
        }
    };
    row.ppid = read.get("parent", fields.parent).and_then(|parent| u32::try_from(parent).ok());
    row.start_time = read.get("start time", fields.create_time).and_then(from_file_time);
    row.exit_time = read.get("exit time", fields.exit_time).and_then(from_file_time);
    row.threads = read.get("thread count", fields.active_threads);
    // 1 says that the process runs without a shadow.
    let user = read.get("user page table", fields.user_page_table).map(root_of);
    row.user_page_table = user.filter(|root| !root.is_null() && Some(*root) != row.page_table);
    row.wow64 = read.get("Wow64Process", fields.wow64).is_some_and(|pointer| pointer != 0);
    let session = session(process, fields);
    row.session = read.keep("session", session).flatten();
    let exe = exe(process, fields);
    row.exe = read.keep("image path", exe).flatten();
    if let Some(peb) = read.get("PEB", fields.peb).map(VirtAddr::new).filter(|peb| !peb.is_null()) {
        if is_user(peb) {
            row.peb = Some(peb);
            let line = command_line(process, peb);
            row.command_line = read.keep("command line", line);
        } else {
            let reason = "not an address of user mode";
            read.keep::<()>("PEB", Err(WindowsError::Broken { what: "the PEB", at: peb, reason }));
        }
    }
    row.errors = read.errors;
    row
}

fn session(process: &Process<'_>, fields: &ProcessFields) -> Result<Option<u32>, WindowsError> {
    let memory = process.windows.kernel();
    if let Some(field) = fields.session_id {
        return field.read(memory, process.object()).map(Some).map_err(WindowsError::read("SessionId"));
    }
    let Some(field) = fields.session else { return Ok(None) };
    let session = field.pointer(memory, process.object()).map_err(WindowsError::read("Session"))?;
    if session.is_null() {
        return Ok(None);
    }
    fields.session_number.read(memory, session).map(Some).map_err(WindowsError::read("SessionId"))
}

/// The kernel's path: what auditing keeps, else that of the image's file object.
fn exe(process: &Process<'_>, fields: &ProcessFields) -> Result<Option<String>, WindowsError> {
    let windows = process.windows;
    let memory = windows.kernel();
    let mut failed = None;
    if let Some(field) = fields.audit_name {
        let name = field.pointer(memory, process.object()).and_then(|info| match info.is_null() {
            true => Ok(String::new()),
            false => unicode_string(memory, info.wrapping_add(fields.object_name), windows.limits()),
        });
        match name {
            Ok(name) if !name.is_empty() => return Ok(Some(name)),
            Ok(_) => {}
            Err(error) => failed = Some(error),
        }
    }
    if let Some(field) = fields.image_file {
        let file = field.pointer(memory, process.object()).map_err(WindowsError::read("ImageFilePointer"))?;
        if !file.is_null() {
            return windows.file_path(file).map(Some);
        }
    }
    match failed {
        Some(error) => Err(WindowsError::read("SeAuditProcessCreationInfo")(error)),
        None => Ok(None),
    }
}

fn command_line(process: &Process<'_>, peb: VirtAddr) -> Result<String, WindowsError> {
    let windows = process.windows;
    let types = windows.types();
    let parameters: Field<u64> = Field::new(types, "_PEB", "ProcessParameters")?;
    let line = types.member("_RTL_USER_PROCESS_PARAMETERS", "CommandLine")?.offset;
    let memory = process.user_memory()?;
    let at = parameters.pointer(&memory, peb).map_err(WindowsError::read("the PEB"))?;
    unicode_string(&memory, at.wrapping_add(line), windows.limits())
        .map_err(WindowsError::read("the process parameters"))
}

impl Process<'_> {
    /// The 64-bit PEB; nothing where it has none, or a wild one.
    pub(crate) fn peb(&self) -> Option<VirtAddr> {
        let field = self.windows.process_fields().ok()?.peb?;
        field.pointer(self.windows.kernel(), self.object()).ok().filter(|peb| is_user(*peb))
    }

    /// The 32-bit PEB of a 32-bit process.
    ///
    /// # Errors
    /// [`WindowsError::Read`] where what leads to it cannot be read.
    pub(crate) fn peb32(&self) -> Result<Option<VirtAddr>, WindowsError> {
        let fields = self.windows.process_fields()?;
        let memory = self.windows.kernel();
        let Some(field) = fields.wow64 else { return Ok(None) };
        let mut peb = field.pointer(memory, self.object()).map_err(WindowsError::read("Wow64Process"))?;
        if let (Wow64::Inside(inner), false) = (fields.wow64_peb, peb.is_null() || is_user(peb)) {
            peb = memory
                .read_pointer(inner.address(peb))
                .map_err(WindowsError::read("the 32-bit PEB's address"))?;
        }
        Ok(Some(peb).filter(|peb| is_user(*peb)))
    }
}
