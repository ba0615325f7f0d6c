//! PDBs from a symbol server, by the system's `curl`: only where `--download` asks for it.
//!
//! What comes is kept under the name it was asked by only when the GUID in it is the one that the image named.

mod part;

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use vmc_windows::CodeView;

use super::{msf, store};
use part::Part;

/// Bytes of a PDB that is fetched: ntoskrnl's have some 20 MB, those with everything in them a few hundred.
const BYTES: u64 = 1 << 30;
/// Seconds that curl may take for one, and to be connected.
const SECONDS: &str = "600";
const SECONDS_TO_CONNECT: &str = "15";
/// Files that are asked for at the most.
const FILES: usize = 1000;
/// What curl says on stderr, as far as it is shown.
const WORDS: u64 = 4096;
/// curl's exit status where the server answered with a failure (`--fail`).
const REFUSED: i32 = 22;

/// Why a file was not to be had.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotFetched {
    /// The server has no such file, or another one in its place.
    Absent(String),
    /// Nothing can be fetched: no curl, no connection, no place to keep it.
    Nothing(String),
}

/// A symbol server, and where what it gives is kept.
#[derive(Debug)]
pub(super) struct Server {
    url: String,
    /// A symbol store.
    keep: PathBuf,
    curl: OsString,
    /// What was asked for without success.
    missed: HashSet<CodeView>,
    asked: usize,
    /// Was it seen that nothing can be fetched?
    dead: bool,
}

impl Server {
    pub(super) fn new(url: &str, keep: PathBuf) -> Self {
        let url = url.trim_end_matches('/').to_owned();
        Self { url, keep, curl: "curl".into(), missed: HashSet::new(), asked: 0, dead: false }
    }

    /// Where it is.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// May it be asked for the PDB of this image? Once.
    pub(super) fn may_ask(&self, image: &CodeView) -> bool {
        !self.dead
            && self.asked < FILES
            && store::plain(&image.name).is_some()
            && !self.missed.contains(image)
    }

    /// Fetches the PDB of an image. Where it lies then.
    pub(super) fn fetch(&mut self, image: &CodeView) -> Result<PathBuf, NotFetched> {
        self.asked += 1;
        let fetched = self.fetch_once(image);
        if let Err(why) = &fetched {
            self.missed.insert(image.clone());
            self.dead |= matches!(why, NotFetched::Nothing(_));
        }
        fetched
    }

    fn fetch_once(&self, image: &CodeView) -> Result<PathBuf, NotFetched> {
        let (Some(stored), Some(name)) = (store::in_store(image), store::plain(&image.name)) else {
            return Err(NotFetched::Absent("its name is none that a file may have".to_owned()));
        };
        let url = format!("{}/{name}/{image}/{name}", self.url);
        let no_place =
            |why: io::Error| NotFetched::Nothing(format!("{} cannot be written: {why}", self.keep.display()));
        private(&self.keep).map_err(no_place)?;
        let part = Part::create(&self.keep).map_err(no_place)?;
        self.run(&url, &part.file)?;
        match msf::guid(&part.file) {
            Some(guid) if guid == image.guid => {}
            Some(guid) => {
                let other = CodeView { guid, ..image.clone() }.guid_text();
                return Err(NotFetched::Absent(format!(
                    "{url}: what came is another PDB: its GUID is {other}"
                )));
            }
            None => return Err(NotFetched::Absent(format!("{url}: what came is no PDB"))),
        }
        let place = self.keep.join(stored);
        if let Some(folder) = place.parent() {
            private(folder).map_err(no_place)?;
        }
        part.keep_as(&place).map_err(no_place)?;
        Ok(place)
    }

    /// Runs curl; what it brings goes into `file`, as far as the bound allows.
    fn run(&self, url: &str, file: &File) -> Result<(), NotFetched> {
        let allowed = if url.starts_with("https:") { "=https" } else { "=http,https" };
        let most = BYTES.to_string();
        // The first word keeps curl from reading options of the user's.
        let words = [
            "--disable",
            "--fail",
            "--silent",
            "--show-error",
            "--globoff",
            "--location",
            "--max-redirs",
            "5",
            "--proto",
            allowed,
            "--proto-redir",
            allowed,
            "--connect-timeout",
            SECONDS_TO_CONNECT,
            "--max-time",
            SECONDS,
            "--max-filesize",
            &most,
            "--url",
            url,
        ];
        let mut curl = Command::new(&self.curl);
        curl.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut curl = curl.spawn().map_err(|why| {
            NotFetched::Nothing(match why.kind() {
                io::ErrorKind::NotFound => {
                    "curl, which fetches the files of --download, is not installed".to_owned()
                }
                _ => format!("curl, which fetches the files of --download, cannot be run: {why}"),
            })
        })?;
        let copied = copy(&mut curl, file, BYTES);
        if copied.is_err() {
            // It writes into a pipe that nobody reads any more: it ends in any case.
            let _ = curl.kill();
        }
        let mut said = String::new();
        if let Some(stderr) = curl.stderr.take() {
            let _ = stderr.take(WORDS).read_to_string(&mut said);
        }
        let ended = curl.wait().map_err(|why| NotFetched::Nothing(format!("curl: {why}")))?;
        copied.map_err(|why| NotFetched::Absent(format!("{url}: {why}")))?;
        if ended.success() {
            return Ok(());
        }
        let said = said.lines().next().unwrap_or("curl failed").trim().to_owned();
        Err(match ended.code() {
            Some(REFUSED) if said.ends_with(" 404") => {
                NotFetched::Absent(format!("{url}: the server does not have it"))
            }
            Some(REFUSED) => NotFetched::Absent(format!("{url}: {said}")),
            _ => NotFetched::Nothing(format!("{url}: {said}")),
        })
    }
}

/// Copies what curl writes, up to `most` bytes.
fn copy(curl: &mut Child, mut file: &File, most: u64) -> io::Result<()> {
    let Some(out) = curl.stdout.take() else { return Ok(()) };
    let copied = io::copy(&mut out.take(most.saturating_add(1)), &mut file)?;
    file.flush()?;
    if copied > most { Err(io::Error::other(format!("it has more than {most} bytes"))) } else { Ok(()) }
}

/// Makes a folder that is the user's alone.
fn private(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Is it the address of a server?
pub(crate) fn check_url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let plain = |rest: &str| !rest.is_empty() && rest.bytes().all(|c| c.is_ascii_graphic() && c != b'"');
    match rest {
        Some(rest) if plain(rest) && text.len() <= 2048 => Ok(text.to_owned()),
        _ => Err("it is no address of a symbol server: https://HOST/PATH or http://HOST/PATH".to_owned()),
    }
}

#[cfg(test)]
mod tests;
