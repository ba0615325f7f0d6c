//! PDBs from a symbol server, by the system's `curl`: only where `--download` asks for it.
//!
//! What comes is kept under the name it was asked by only when the GUID in it is the one that the image named.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use vmc_windows::CodeView;

use super::{msf, store};

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

/// A file that is gone unless it is kept.
struct Part {
    file: File,
    path: PathBuf,
}

impl Part {
    fn create(folder: &Path) -> io::Result<Self> {
        let pid = std::process::id();
        for number in 0..100 {
            let path = folder.join(format!(".{pid}-{number}.part"));
            match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => return Ok(Self { file, path }),
                Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {}
                Err(why) => return Err(why),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    fn keep_as(mut self, place: &Path) -> io::Result<()> {
        fs::rename(&self.path, place)?;
        self.path = PathBuf::new();
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            // Nobody asks for it under this name.
            let _ = fs::remove_file(&self.path);
        }
    }
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
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    fn image(name: &str) -> CodeView {
        CodeView { name: name.into(), guid: *b"0123456789abcdef", age: 2 }
    }

    /// A server that answers each request with the next of some answers; the requests' first lines.
    fn serve(answers: Vec<Vec<u8>>) -> (String, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/store/", listener.local_addr().unwrap());
        let served = std::thread::spawn(move || {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                asked.push(lines.next().unwrap().unwrap());
                lines.map_while(Result::ok).find(String::is_empty);
                // Whoever has read enough may have gone.
                let _ = stream.write_all(&answer);
            }
            asked
        });
        (url, served)
    }

    fn ok(body: &[u8]) -> Vec<u8> {
        [b"HTTP/1.0 200 OK\r\n\r\n", body].concat()
    }

    fn has_curl() -> bool {
        let there = Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_ok();
        if !there {
            assert!(std::env::var_os("VMC_REQUIRE_ALL").is_none(), "cannot be skipped here: no curl");
            let _ = writeln!(io::stderr(), "skipped: curl is not installed");
        }
        there
    }

    fn keep(name: &str) -> PathBuf {
        let keep = std::env::temp_dir().join(format!("vmc-download-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&keep);
        keep
    }

    fn files(below: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(below).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut found: Vec<PathBuf> =
            entries.flat_map(|path| if path.is_dir() { files(&path) } else { Vec::from([path]) }).collect();
        found.sort();
        found
    }

    #[test]
    fn what_the_image_names_is_fetched_and_kept() {
        if !has_curl() {
            return;
        }
        let (keep, image) = (keep("kept"), image(r"D:\src\nt.pdb"));
        let bytes = msf::tests::pdb(image.guid);
        let (url, served) = serve(vec![ok(&bytes)]);
        let mut server = Server::new(&url, keep.clone());
        assert!(server.may_ask(&image));
        let place = server.fetch(&image).unwrap();
        assert_eq!(place, keep.join(format!("nt.pdb/{image}/nt.pdb")));
        assert_eq!(fs::read(&place).unwrap(), bytes);
        assert_eq!(served.join().unwrap(), [format!("GET /store/nt.pdb/{image}/nt.pdb HTTP/1.1")]);
        assert_eq!(files(&keep), [place]);
        fs::remove_dir_all(keep).unwrap();
    }

    #[test]
    fn nothing_else_is_kept() {
        if !has_curl() {
            return;
        }
        let (keep, image) = (keep("nothing"), image("nt.pdb"));
        let whole = msf::tests::pdb(image.guid);
        let short = [&b"HTTP/1.0 200 OK\r\nContent-Length: 9999\r\n\r\n"[..], &whole].concat();
        let large = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", BYTES + 1).into_bytes();
        let away = b"HTTP/1.0 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n".to_vec();
        for (answer, word, alive) in [
            (ok(&msf::tests::pdb([7; 16])), "is another PDB: its GUID is 0707", true),
            (ok(b"<html>sign in</html>"), "is no PDB", true),
            (b"HTTP/1.0 404 Not Found\r\n\r\n".to_vec(), "does not have it", true),
            (b"HTTP/1.0 500 Internal Server Error\r\n\r\n".to_vec(), "500", true),
            (short, "curl", false),
            (large, "curl", false),
            (away, "curl", false),
            (b"no HTTP at all\r\n".to_vec(), "curl", false),
        ] {
            let (url, served) = serve(vec![answer]);
            let mut server = Server::new(&url, keep.clone());
            let (NotFetched::Absent(why) | NotFetched::Nothing(why)) = server.fetch(&image).unwrap_err();
            assert!(why.contains(word) && why.lines().count() == 1, "{why}");
            // It is not asked again for the same, and not at all where nothing works.
            assert!(!server.may_ask(&image));
            assert_eq!(server.may_ask(&self::image("other.pdb")), alive, "{why}");
            served.join().unwrap();
            assert_eq!(files(&keep), [] as [PathBuf; 0], "{why}");
        }
        fs::remove_dir_all(keep).unwrap();
    }

    #[test]
    fn the_reason_is_told_where_nothing_can_be_fetched() {
        let keep = keep("without");
        let mut server = Server::new("http://127.0.0.1:9/x", keep.clone());
        server.curl = "/nonexistent/curl".into();
        let why = server.fetch(&image("nt.pdb")).unwrap_err();
        assert!(
            matches!(&why, NotFetched::Nothing(why) if why.contains("curl") && why.contains("not installed"))
        );
        // No name leads out of the store.
        let server = Server::new("http://127.0.0.1:9/x", keep.clone());
        assert!(!server.may_ask(&image("..")) && !server.may_ask(&image("a b")));
        assert!(matches!(server.fetch_once(&image("..")), Err(NotFetched::Absent(_))));
        fs::remove_dir_all(keep).unwrap();
    }

    #[test]
    fn a_large_answer_is_cut_off() {
        let mut talker = Command::new("yes").stdout(Stdio::piped()).spawn().unwrap();
        let path = std::env::temp_dir().join(format!("vmc-large-{}", std::process::id()));
        let file = File::create(&path).unwrap();
        let why = copy(&mut talker, &file, 100_000).unwrap_err();
        talker.kill().unwrap();
        talker.wait().unwrap();
        assert!(why.to_string().contains("more than 100000 bytes"));
        assert!(fs::metadata(&path).unwrap().len() <= 100_001);
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn addresses_of_servers_are_told_from_other_words() {
        assert!(check_url("https://msdl.microsoft.com/download/symbols").is_ok());
        for wrong in ["", "msdl", "https://", "file:///x", "ftp://x/", "https://a b", "--output"] {
            assert!(check_url(wrong).is_err(), "{wrong}");
        }
    }
}
