//! What is fetched and kept, and what is not, by a server on this machine.

use super::*;
use std::fs;
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
        crate::skipped::skip("curl is not installed");
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
