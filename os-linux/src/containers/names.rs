//! What runtimes call containers, by the paths of their control groups.
//!
//! Source: the runtimes' own conventions: `NAME-ID.scope` under systemd, a directory of the id otherwise, `lxc.payload.NAME`,
//! `machine.slice` of systemd-machined.

use alloc::string::String;
use alloc::vec::Vec;

/// A container's id and its runtime, where the path tells them.
pub(super) fn by_control_group(path: &str) -> Option<(String, &'static str)> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    // The innermost that tells: containers in containers have their own.
    parts.iter().enumerate().rev().find_map(|(index, part)| {
        let above = index.checked_sub(1).and_then(|above| parts.get(above)).copied().unwrap_or_default();
        by_part(part, above, &parts)
    })
}

fn by_part(part: &str, above: &str, all: &[&str]) -> Option<(String, &'static str)> {
    if let Some(name) = part.strip_prefix("lxc.payload.") {
        return Some((name.into(), "lxc"));
    }
    if above == "lxc" {
        return Some((part.into(), "lxc"));
    }
    if let Some(name) = part.strip_prefix("systemd-nspawn@").and_then(|name| name.strip_suffix(".service")) {
        return Some((unescaped(name), "nspawn"));
    }
    if let Some(name) = part.strip_prefix("machine-").and_then(|name| name.strip_suffix(".scope")) {
        let name = unescaped(name);
        // libvirt's: virtual machines are no containers.
        return match name.split_once('-') {
            Some(("qemu", _)) => None,
            Some(("lxc", name)) => Some((name.into(), "lxc")),
            _ => Some((name, "nspawn")),
        };
    }
    // With a name before it, or alone.
    let stem = part.strip_suffix(".scope").unwrap_or(part);
    let (prefix, id) = stem.rsplit_once('-').unwrap_or(("", stem));
    // cri-containerd's without systemd: SLICE:cri-containerd:ID.
    let (prefix, id) = match stem.rsplit_once(':') {
        Some((before, id)) => (before.rsplit(':').next().unwrap_or(before), id),
        None => (prefix, id),
    };
    if !is_id(id) {
        return None;
    }
    let runtime = match prefix {
        "docker" => "docker",
        "cri-containerd" | "nerdctl" | "containerd" => "containerd",
        "crio" => "cri-o",
        "libpod" | "libpod-payload" => "podman",
        "buildah" => "buildah",
        // Watchers, not containers.
        "libpod-conmon" | "crio-conmon" => return None,
        "" => match above {
            "docker" => "docker",
            "libpod_parent" => "podman",
            _ if all.iter().any(|part| part.starts_with("kubepods")) => "kubernetes",
            "default" | "k8s.io" | "moby" => "containerd",
            _ => "unknown",
        },
        _ => "unknown",
    };
    Some((id.into(), runtime))
}

/// 64 digits of a hash, or 32.
fn is_id(text: &str) -> bool {
    matches!(text.len(), 32 | 64) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// `\x2d` of systemd's names.
fn unescaped(name: &str) -> String {
    name.replace("\\x2d", "-")
}

#[cfg(test)]
mod tests {
    use super::by_control_group;
    use alloc::string::{String, ToString};

    #[test]
    fn runtimes_are_known_by_their_groups() {
        let id = "0123456789abcdef".repeat(4);
        let told = |path: &str| by_control_group(&path.replace("ID", &id));
        let named = |runtime| Some((id.clone(), runtime));
        assert_eq!(told("/system.slice/docker-ID.scope"), named("docker"));
        assert_eq!(told("/docker/ID"), named("docker"));
        assert_eq!(told("/docker/ID/init.scope"), named("docker"));
        assert_eq!(told("/machine.slice/libpod-ID.scope/container"), named("podman"));
        assert_eq!(told("/machine.slice/libpod-conmon-ID.scope"), None);
        assert_eq!(told("/kubepods.slice/kubepods-pod1.slice/cri-containerd-ID.scope"), named("containerd"));
        assert_eq!(
            told("/system.slice/kubepods-burstable-pod1.slice:cri-containerd:ID"),
            named("containerd")
        );
        assert_eq!(told("/kubepods/burstable/pod1/ID"), named("kubernetes"));
        assert_eq!(told("/kubepods.slice/crio-ID.scope"), named("cri-o"));
        let name = |name: &str, runtime| Some((name.to_string(), runtime));
        assert_eq!(told("/lxc.payload.web/system.slice/nginx.service"), name("web", "lxc"));
        assert_eq!(told("/machine.slice/systemd-nspawn@web.service/payload"), name("web", "nspawn"));
        assert_eq!(told("/machine.slice/machine-web\\x2d1.scope"), name("web-1", "nspawn"));
        assert_eq!(told("/machine.slice/machine-qemu\\x2d1\\x2dvm.scope"), None);
        assert_eq!(told("/system.slice/ssh.service"), None);
        assert_eq!(told("/user.slice/user-1000.slice/session-1.scope"), None::<(String, &str)>);
    }
}
