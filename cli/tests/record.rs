//! `record` and `top` as a user calls them, where no live guest is needed.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests may panic")]

mod common;

use common::{sample, scratch, vmc};

#[test]
fn an_image_is_no_guest_that_runs() {
    for command in ["record", "top"] {
        let answer = vmc(&[command, &sample()]);
        assert_eq!(answer.status, 1, "{answer:?}");
        assert!(answer.stderr.contains("needs a guest that runs") && answer.stderr.lines().count() == 1);
    }
}

#[test]
fn wrong_words_are_wrong_usage() {
    let file = scratch().join("flame.png");
    let file = file.to_str().unwrap();
    for words in [
        &["record", "kvm:1", "-o", file][..],
        &["record", "kvm:1", "--rate", "0"],
        &["record", "kvm:1", "--rate", "x"],
        &["record", "kvm:1", "--duration", "-1"],
        &["record", "kvm:1", "--kernel", "--user"],
        &["record", "kvm:1", "--per", "guest"],
        &["top", "kvm:1", "--interval", "0"],
        &["top", "kvm:1", "-n", "0"],
        &["ps", "kvm:1", "--layout", "nonsense"],
    ] {
        let answer = vmc(words);
        assert_eq!(answer.status, 2, "{words:?} {answer:?}");
    }
    assert!(!std::path::Path::new(file).exists());
}
