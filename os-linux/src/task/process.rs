//! A process as a row.

use vmc::view::{Process, RowErrors};
use vmc::{PhysAddr, VirtAddr};

use crate::error::LinuxError;
use crate::mm::AddressSpaceOf;
use crate::task::Task;

/// Resident pages are counted by kind (`include/linux/mm_types_task.h`): of files, anonymous, swapped out, shared memory.
const RESIDENT: [usize; 3] = [0, 1, 3];

impl Task<'_, '_> {
    /// The process as a row; what cannot be read is absent, and the row says why.
    #[must_use]
    pub fn process_row(&self) -> Process {
        let limits = self.linux.limits();
        let mut errors = RowErrors::default();
        let pid = errors.keep(limits, "pid", self.pid()).unwrap_or_default();
        let kernel = errors.keep(limits, "kernel", self.is_kernel_thread()).unwrap_or_default();
        let mut row = Process { pid, kernel, object: self.at, ..Process::default() };
        row.name = errors.keep(limits, "name", self.name()).unwrap_or_default();
        row.ppid = errors.keep(limits, "ppid", self.parent_pid());
        row.state = errors.keep(limits, "state", self.state());
        row.threads = errors.keep(limits, "threads", self.thread_count());
        if let Some((uid, gid)) = errors.keep(limits, "uid, gid", self.real_ids()) {
            (row.uid, row.gid) = (Some(uid), Some(gid));
        }
        row.start_time = errors.keep(limits, "start_time", self.start_time());
        if let Some(Some(mm)) = errors.keep(limits, "mm", self.mm()) {
            row.rss_bytes = errors.keep(limits, "rss_bytes", self.resident_bytes(mm));
            row.page_table = errors.keep(limits, "page_table", self.page_table(mm));
            row.exe = errors.keep(limits, "exe", self.executable(mm)).flatten();
            let space = AddressSpaceOf::new(self.linux, mm);
            let words = space.and_then(|space| space.command_line());
            row.command_line = errors.keep(limits, "cmdline", words);
        }
        row.errors = errors;
        row
    }

    /// Its parent's number, as `getppid` gives it: that of the parent's process.
    fn parent_pid(&self) -> Result<u32, LinuxError> {
        let parent = self.pointer(self.linux.task()?.real_parent, "real_parent")?;
        Task { linux: self.linux, at: parent }.pid()
    }

    fn thread_count(&self) -> Result<u32, LinuxError> {
        let signal = self.pointer(self.linux.task()?.signal, "signal")?;
        self.linux
            .signal()?
            .nr_threads
            .read(self.linux.space(), signal)
            .map_err(LinuxError::read("nr_threads"))
    }

    fn real_ids(&self) -> Result<(u32, u32), LinuxError> {
        let cred = self.pointer(self.linux.task()?.real_cred, "real_cred")?;
        let fields = self.linux.cred()?;
        let read = LinuxError::read("cred");
        let uid = fields.uid.read(self.linux.space(), cred).map_err(&read)?;
        Ok((uid, fields.gid.read(self.linux.space(), cred).map_err(&read)?))
    }

    /// When it began, in nanoseconds since 1970: the boot time and the time since then that the kernel noted.
    fn start_time(&self) -> Result<i128, LinuxError> {
        let field = self.linux.task()?.start_boottime;
        let since_boot =
            field.read(self.linux.space(), self.at).map_err(LinuxError::read("start_boottime"))?;
        Ok(self.linux.boot_time()? + i128::from(since_boot))
    }

    fn page_table(&self, mm: VirtAddr) -> Result<PhysAddr, LinuxError> {
        AddressSpaceOf::new(self.linux, mm).map(|space| space.page_table_root())
    }

    /// The path of the program that it runs.
    fn executable(&self, mm: VirtAddr) -> Result<Option<alloc::string::String>, LinuxError> {
        let field = self.linux.mm()?.exe_file;
        let file = field.pointer(self.linux.space(), mm).map_err(LinuxError::read("exe_file"))?;
        if file.is_null() { Ok(None) } else { self.linux.file_path(file).map(Some) }
    }

    /// Resident memory: pages of files, anonymous ones and shared memory.
    fn resident_bytes(&self, mm: VirtAddr) -> Result<u64, LinuxError> {
        let counts = self.page_counts(mm)?;
        let resident = RESIDENT.iter().filter_map(|kind| counts.get(*kind));
        Ok(self.pages(resident.fold(0, |sum, count| sum.saturating_add(*count))))
    }
}
