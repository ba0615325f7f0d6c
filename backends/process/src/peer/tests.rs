//! The kernel's tables, in words and of this host.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use super::*;

/// Connects, with time enough.
fn connect(address: &Address) -> Socket {
    Socket::connect(address, Duration::from_secs(20), &mut |_| ()).unwrap()
}

#[test]
fn sockets_are_found_in_the_kernels_tables() {
    let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
        0000000015a050c1: 00000002 00000000 00010000 0001 01 1111141 /run/a b/qmp.sock\n\
        0000000015a050c2: 00000003 00000000 00000000 0001 03 1111150 /run/a b/qmp.sock\n\
        0000000015a050c3: 00000003 00000000 00000000 0001 03 1111151\n\
        0000000015a050c4: 00000002 00000000 00010000 0001 01    99 /run/a b/qmp.sock2\n\
        0000000015a050c5: 00000002 00000000 00010000 0001 02     0 @/run/a b/qmp.sock\n";
    let rows: Vec<_> = unix_rows(table)
        .map(|row| (row.flags & LISTENS != 0, row.state, row.inode, row.path.to_str().unwrap()))
        .collect();
    let (path, longer, nameless) = ("/run/a b/qmp.sock", "/run/a b/qmp.sock2", "@/run/a b/qmp.sock");
    let expected = [
        (true, 1, 1_111_141, path),
        (false, 3, 1_111_150, path),
        (true, 1, 99, longer),
        (true, 2, 0, nameless),
    ];
    assert_eq!(rows, expected);
    if cfg!(target_endian = "big") {
        return;
    }
    // proc(5): addresses are in the byte order of the machine.
    let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
        \x20  0: 0100007F:115C 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7 1 0\n\
        \x20  1: 0100007F:115C 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 8 1 0\n\
        \x20  2: 0000000000000000FFFF00000100007F:115C 0000000000000000FFFF00000100007F:C351 01 0:0 0:0 0 0 0 9 1\n\
        \x20  3: 00000000000000000000000001000000:115C 00000000000000000000000001000000:C350 01 0:0 0:0 0 0 0 10 1\n";
    let of = |local: &str, remote: &str| {
        let ends = [local, remote].map(|end| plain(end.parse().unwrap()));
        let rows = tcp_rows(table).filter(|row| [row.local, row.remote] == ends);
        rows.map(|row| (row.inode, row.state)).collect::<Vec<_>>()
    };
    assert_eq!(of("127.0.0.1:4444", "0.0.0.0:0"), [(7, 10)]);
    assert_eq!(of("127.0.0.1:4444", "127.0.0.1:50000"), [(8, ESTABLISHED)]);
    assert_eq!(of("127.0.0.1:4444", "127.0.0.1:50001"), [(9, ESTABLISHED)]);
    assert_eq!(of("[::1]:4444", "[::1]:50000"), [(10, ESTABLISHED)]);
    assert_eq!(of("127.0.0.2:4444", "127.0.0.1:50000"), []);
}

#[test]
fn clients_of_a_unix_socket_are_seen_and_its_process_is_found() {
    let path = std::env::temp_dir().join(format!("vmc-peer-{}.sock", std::process::id()));
    let _ = fs::remove_file(&path);
    let listens = UnixListener::bind(&path).unwrap();
    let address = Address::Unix(path.clone());
    assert!(!is_busy(&address));
    // Not accepted yet, then accepted, then gone.
    let client = connect(&address);
    assert!(is_busy(&address));
    let (server, _) = listens.accept().unwrap();
    assert!(is_busy(&address));
    assert_eq!(listener(&client), Some(std::process::id()));
    assert!(holders(&client).any(|pid| pid == std::process::id()));
    drop((client, server));
    assert!(!is_busy(&address));
    fs::remove_file(path).unwrap();
}

#[test]
fn clients_of_a_tcp_port_are_seen_and_its_process_is_found() {
    for ip in ["127.0.0.1", "::1"] {
        let Ok(listens) = TcpListener::bind((ip, 0)) else { continue };
        let port = listens.local_addr().unwrap().port();
        let address = Address::Tcp(ip.into(), port);
        assert!(!is_busy(&address));
        let client = connect(&address);
        let (server, _) = listens.accept().unwrap();
        assert!(is_busy(&address), "{ip}");
        assert_eq!(listener(&client), None);
        assert!(holders(&client).any(|pid| pid == std::process::id()));
        drop((client, server));
        assert!(!is_busy(&address));
    }
}
