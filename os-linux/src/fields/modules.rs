//! What else the kernel keeps of its modules.

use vmc::layout::{Field, LayoutError, Types};

use super::{FieldGroup, ListHead};

fields! {
    /// `struct module`, as far as sysfs shows it.
    ModuleDetailFields of "module" {
        taints: u64 = "taints";
    } optional {
        args: u64 = "args";
        version: u64 = "version";
        source_version: u64 = "srcversion";
        // Only with CONFIG_MODULE_UNLOAD, and with CONFIG_KALLSYMS and CONFIG_SYSFS.
        references: u32 = "refcnt";
        users: ListHead = "source_list";
        sections: u64 = "sect_attrs";
    }
}

fields! {
    /// `struct module_use`: one module that uses another.
    ModuleUseFields of "module_use" {
        link: ListHead = "source_list";
        user: u64 = "source";
        used: u64 = "target";
    }
}

fields! {
    /// `struct module_sect_attrs` until 6.13: an array behind its length.
    SectionsFields of "module_sect_attrs" {
        count: u32 = "nsections";
    }
}

fields! {
    /// `struct module_sect_attr` until 6.13.
    SectionFields of "module_sect_attr" {
        name: u64 = "battr.attr.name" | "name";
        address: u64 = "address";
    }
}

fields! {
    /// `struct module_sect_attrs` since 6.14: a list of attributes that ends with null.
    SectionListFields of "module_sect_attrs" {
        attributes: u64 = "grp.bin_attrs" | "grp.bin_attrs_new";
    }
}

fields! {
    /// `struct bin_attribute`, whose private word is the section's address since 6.14.
    BinAttributeFields of "bin_attribute" {
        name: u64 = "attr.name";
        private: u64 = "private";
    }
}
