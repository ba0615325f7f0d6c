//! Sockets, their tables, and network interfaces.

use vmc::layout::{Field, LayoutError, Types};

use super::{FieldGroup, ListHead};

fields! {
    /// `struct socket` (`include/linux/net.h`).
    SocketFields of "socket" {
        sock: u64 = "sk";
    }
}

fields! {
    /// `struct sock_common` (`include/net/sock.h`), with which all kinds of sockets begin.
    SockFields of "sock_common" {
        local: [u8; 4] = "skc_rcv_saddr";
        remote: [u8; 4] = "skc_daddr";
        local_port: u16 = "skc_num";
        remote_port: [u8; 2] = "skc_dport";
        family: u16 = "skc_family";
        state: u8 = "skc_state";
        protocol: u64 = "skc_prot";
        node: [u64; 2] = "skc_node";
    } optional {
        local6: [u8; 16] = "skc_v6_rcv_saddr";
        remote6: [u8; 16] = "skc_v6_daddr";
        net: u64 = "skc_net.net";
    }
}

fields! {
    /// `struct sock`, beyond what all sockets have.
    SockSocketFields of "sock" {
        socket: u64 = "sk_socket";
    }
}

fields! {
    /// `struct inet_timewait_sock`: what is left of a connection.
    TimeWaitFields of "inet_timewait_sock" {} optional {
        state: u8 = "tw_substate";
    }
}

fields! {
    /// `struct proto`: a protocol.
    ProtoFields of "proto" {
        name: [u8; 32] = "name";
    }
}

fields! {
    /// `struct unix_sock` (`include/net/af_unix.h`).
    UnixSockFields of "unix_sock" {
        address: u64 = "addr";
        peer: u64 = "peer";
    }
}

fields! {
    /// `struct unix_address`.
    UnixAddressFields of "unix_address" {
        len: u32 = "len";
    }
}

fields! {
    /// `struct net`: a network namespace.
    NetFields of "net" {
        list: ListHead = "list";
        number: u32 = "ns.inum";
        devices: ListHead = "dev_base_head";
    } optional {
        // Tables of sockets that are a namespace's own, or shared by pointing at one.
        tcp: u64 = "ipv4.tcp_death_row.hashinfo";
        udp: u64 = "ipv4.udp_table";
        unix: u64 = "unx.table.buckets";
    }
}

fields! {
    /// `struct inet_hashinfo` (`include/net/inet_hashtables.h`).
    HashInfoFields of "inet_hashinfo" {
        established: u64 = "ehash";
        established_mask: u32 = "ehash_mask";
    } optional {
        listening: u64 = "lhash2";
        listening_mask: u32 = "lhash2_mask";
    }
}

fields! {
    /// `struct udp_table` (`include/net/udp.h`).
    UdpTableFields of "udp_table" {
        slots: u64 = "hash";
        mask: u32 = "mask";
    }
}

fields! {
    /// `struct net_device` (`include/linux/netdevice.h`).
    NetDeviceFields of "net_device" {
        list: ListHead = "dev_list";
        name: [u8; 16] = "name";
        index: u32 = "ifindex";
        flags: u32 = "flags";
        mtu: u32 = "mtu";
        hardware: u64 = "dev_addr";
        hardware_len: u8 = "addr_len";
    } optional {
        ipv4: u64 = "ip_ptr";
        ipv6: u64 = "ip6_ptr";
    }
}

fields! {
    /// `struct in_device`: an interface's IPv4.
    InDeviceFields of "in_device" {
        addresses: u64 = "ifa_list";
    }
}

fields! {
    /// `struct in_ifaddr`: an IPv4 address of an interface.
    Address4Fields of "in_ifaddr" {
        next: u64 = "ifa_next";
        address: [u8; 4] = "ifa_local";
        prefix: u8 = "ifa_prefixlen";
    }
}

fields! {
    /// `struct inet6_dev`: an interface's IPv6.
    Inet6DeviceFields of "inet6_dev" {
        addresses: ListHead = "addr_list";
    }
}

fields! {
    /// `struct inet6_ifaddr`: an IPv6 address of an interface.
    Address6Fields of "inet6_ifaddr" {
        list: ListHead = "if_list";
        address: [u8; 16] = "addr";
        prefix: u32 = "prefix_len";
    }
}
