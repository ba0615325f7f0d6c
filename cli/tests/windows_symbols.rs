//! PDBs of a Windows guest's images: lying about, out of a symbol store, from a server, out of the cache.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests may panic")]

mod common;
#[path = "common/windows.rs"]
mod windows;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{Answer, scratch, skip, vmc, vmc_with_cache};
use windows::{planted, refused, shared, symbol_server, text};

/// The functions of the stacks of process 3388, which runs `xframe_eh_exe.exe`.
fn functions(answer: Answer) -> Vec<String> {
    let rows: serde_json::Value = serde_json::from_str(&answer.succeeded().stdout).unwrap();
    let frames = rows.as_array().unwrap().iter().flat_map(|row| row["frames"].as_array().unwrap());
    let of_program = frames.filter(|frame| frame["module"].as_str().unwrap_or("").contains("xframe_eh"));
    of_program.filter_map(|frame| Some(frame["symbol"].as_str()?.to_owned())).collect()
}

fn files(below: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(below) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![text(&path)] }).collect()
}

#[test]
fn functions_are_named_by_the_pdb_that_the_image_names() {
    let (Some(guest), Some(shared)) = (planted("19041-pages"), shared()) else { return };
    if Command::new("curl").arg("--version").output().is_err() {
        return skip("curl is not installed");
    }
    let scratch = scratch().join(format!("symbols-{}", std::process::id()));
    let (cache, store) = (scratch.join("cache"), scratch.join("store"));
    fs::create_dir_all(&cache).unwrap();
    let bt = |more: &[&str]| {
        let words = ["bt", &guest.path, "--pid", "3388", "--format", "json", "--symbols", &guest.symbols];
        vmc_with_cache(&[&words[..], more].concat(), &cache)
    };
    // The program exports nothing.
    let without = functions(bt(&[]));
    let pdbs = shared.join("seh/x64");
    let lying = functions(bt(&["--symbols", &text(&pdbs)]));
    assert!(lying.len() > without.len(), "{lying:?}, without PDBs {without:?}");
    // A symbol store, as the images' ledger has the ids.
    for module in guest.truth["processes"].as_array().unwrap().iter().flat_map(|process| {
        process["modules"].as_array().unwrap().iter().filter(|module| module["pdb"].is_object())
    }) {
        let pdb = &module["pdb"];
        let name = pdb["name"].as_str().unwrap().rsplit('\\').next().unwrap();
        let id = format!("{}{:X}", pdb["guid"].as_str().unwrap(), pdb["age"].as_u64().unwrap());
        if let Ok(bytes) = fs::read(pdbs.join(name)) {
            fs::create_dir_all(store.join(name).join(&id)).unwrap();
            fs::write(store.join(name).join(id).join(name), bytes).unwrap();
        }
    }
    assert_eq!(functions(bt(&["--symbols", &text(&store)])), lying);
    // A server: asked once for each, told of, and kept for later.
    let (url, asked) = symbol_server(pdbs.clone());
    let answer = bt(&[&format!("--download={url}")]);
    let fetching = answer.stderr.lines().filter(|line| line.starts_with("vmc: fetching ")).count();
    assert_eq!(functions(answer), lying);
    let asked = asked.lock().unwrap().clone();
    assert_eq!(fetching, asked.len(), "{asked:?}");
    assert!(asked.iter().all(|path| path.starts_with("/symbols/") && !path.contains("..")), "{asked:?}");
    let kept = files(&cache.join("symbols"));
    assert!(!kept.is_empty() && kept.iter().all(|path| path.ends_with(".pdb")), "{kept:?}");
    assert_eq!(functions(bt(&[])), lying);
    assert_eq!(functions(bt(&["--no-cache"])), without);
    fs::remove_dir_all(scratch).unwrap();
}

#[test]
fn what_a_server_lacks_is_told() {
    let (Some(guest), Some(shared)) = (planted("19041-pages"), shared()) else { return };
    if Command::new("curl").arg("--version").output().is_err() {
        return skip("curl is not installed");
    }
    let cache = scratch().join(format!("lacks-{}", std::process::id()));
    fs::create_dir_all(&cache).unwrap();
    let (url, asked) = symbol_server(shared.join("seh/x64"));
    let answer = vmc_with_cache(&["ps", &guest.path, &format!("--download={url}")], &cache);
    assert_eq!((answer.status, answer.stdout.as_str()), (1, ""), "{answer:?}");
    let lines: Vec<&str> = answer.stderr.lines().collect();
    assert!(lines[0].starts_with("vmc: fetching ntkrnlmp.pdb ") && lines[0].ends_with(&url), "{lines:?}");
    assert!(lines[1].contains("the server does not have it") && lines.len() == 2, "{lines:?}");
    assert_eq!(asked.lock().unwrap().len(), 1);
    // Nobody listens there.
    let answer = vmc_with_cache(&["ps", &guest.path, "--download=http://127.0.0.1:9/x", "-q"], &cache);
    assert!(answer.status == 1 && answer.stderr.lines().count() == 1, "{answer:?}");
    assert!(answer.stderr.contains("127.0.0.1") && answer.stderr.contains("curl: (7)"), "{answer:?}");
    assert_eq!(files(&cache.join("symbols")), [] as [String; 0]);
    // What is no address, and what has nowhere to be kept.
    for words in [&["--download=file:///etc"][..], &["--download", "--no-cache"]] {
        let words = [&["ps", &guest.path], words].concat();
        assert_eq!(vmc_with_cache(&words, &cache).status, 2, "{words:?}");
    }
    fs::remove_dir_all(cache).unwrap();
}

#[test]
fn without_any_file_what_is_derived_is_marked() {
    let Some(guest) = planted("20348-kpti") else { return };
    let info = vmc(&["info", &guest.path, "--format", "json"]).succeeded();
    let told: serde_json::Value = serde_json::from_str(&info.stdout).unwrap();
    let kernel = guest.truth.pointer("/kernel").unwrap();
    assert_eq!(told.get("types").unwrap(), "derived");
    assert_eq!(told.get("version"), kernel.get("build_lab"));
    assert_eq!(told.get("system_root"), kernel.get("system_root"));
    for word in ["--symbols DIR", "derived from what the kernel exports"] {
        assert_eq!(info.stderr.matches(word).count(), 1, "{info:?}");
    }
    let modules = vmc(&["modules", &guest.path, "--format", "json"]).succeeded().stdout;
    let modules: serde_json::Value = serde_json::from_str(&modules).unwrap();
    let planted = guest.truth.get("kernel_modules").unwrap();
    assert_eq!(modules.as_array().unwrap().len(), planted.as_array().unwrap().len());
    refused(&vmc(&["ps", &guest.path]), &["--symbols DIR", "ntkrnlmp.pdb"]);
}
