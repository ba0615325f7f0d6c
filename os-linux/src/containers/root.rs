//! What a container's root directory is on: of an overlay, its layers.
//!
//! Source: `struct ovl_config` in `fs/overlayfs/ovl_entry.h`; `ovl_show_options()`: lower directories are one string until 6.4,
//! later a list whose entry 0 is that string or null and whose others are the layers.

use alloc::string::String;
use alloc::vec::Vec;

use vmc::text::lossless;
use vmc::view::{ContainerRoot, RowErrors};
use vmc::{ReadExt, VirtAddr};

use super::there;
use crate::error::LinuxError;
use crate::fs::LowerDirectories;
use crate::kernel::Linux;
use crate::task::Task;

/// Layers of an overlay: `OVL_MAX_STACK` is 500.
const LAYERS: u64 = 512;

impl Linux<'_> {
    /// What a process' root directory is on.
    pub(super) fn container_root(&self, task: &Task<'_, '_>, errors: &mut RowErrors) -> ContainerRoot {
        let limits = self.limits();
        let mut root = ContainerRoot::default();
        let facts = self.root_facts(task, &mut root);
        let Some(Some(block)) = errors.keep(limits, "root", facts) else { return root };
        if root.fstype.as_deref() == Some("overlay") {
            errors.keep(limits, "root", self.overlay_layers(block, &mut root));
        }
        root
    }

    /// Source and file system of the root; its super block.
    fn root_facts(
        &self,
        task: &Task<'_, '_>,
        root: &mut ContainerRoot,
    ) -> Result<Option<VirtAddr>, LinuxError> {
        let (place, _) = match task.directories() {
            Err(LinuxError::Gone { .. }) => return Ok(None),
            other => other?,
        };
        let space = self.space();
        let read = LinuxError::read("a root directory");
        let within = vmc::layout::Types::member(self.types(), "mount", "mnt")?.offset;
        let mount = place.mount.wrapping_add(within.wrapping_neg());
        let fields = self.root_mount()?;
        root.source = self.text_at(fields.source, mount)?.map(|source| lossless(&source));
        root.path = self.path(place.mount, place.dentry, None)?.map(|path| lossless(&path));
        let block = fields.super_block.pointer(space, mount).map_err(&read)?;
        let kind = self.super_block_facts()?.kind.pointer(space, block).map_err(&read)?;
        root.fstype = self.text_at(self.file_system()?.name, kind)?.map(|name| lossless(&name));
        Ok(Some(block))
    }

    /// The directories of an overlay.
    fn overlay_layers(&self, block: VirtAddr, root: &mut ContainerRoot) -> Result<(), LinuxError> {
        let space = self.space();
        let read = LinuxError::read("an overlay");
        let private = self.super_block_kind()?.private.pointer(space, block).map_err(&read)?;
        let Some(config) = self.overlay()?.config else {
            let (structure, member) = ("ovl_fs".into(), "config".into());
            return Err(vmc::layout::LayoutError::NoMember { structure, member }.into());
        };
        let text = |field| Ok::<_, LinuxError>(self.text_at(field, private)?.map(|text| lossless(&text)));
        root.upper = text(config.upper)?;
        root.work = text(config.work)?;
        root.lower = match config.lower {
            LowerDirectories::Text(field) => text(field)?,
            LowerDirectories::List { list, layers } => {
                let list = list.pointer(space, private).map_err(&read)?;
                let entry = |index: u64| -> Result<Option<String>, LinuxError> {
                    let at = space.read_pointer(list.wrapping_add(index * 8)).map_err(&read)?;
                    let Some(at) = there(at) else { return Ok(None) };
                    let text = space.read_cstr(at, self.limits().string_bytes).map_err(&read)?;
                    Ok(Some(lossless(&text)))
                };
                if list.is_null() {
                    None
                } else if let Some(all) = entry(0)? {
                    Some(all)
                } else {
                    let layers = u64::from(layers.read(space, private).map_err(&read)?).min(LAYERS);
                    let names = (1..layers).map(entry).collect::<Result<Vec<_>, _>>()?;
                    let names: Vec<String> = names.into_iter().flatten().collect();
                    (!names.is_empty()).then(|| names.join(":"))
                }
            }
        };
        Ok(())
    }
}
