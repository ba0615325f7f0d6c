//! Names as llvm-undname reads them, and names that were made to do harm.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use vmc::Limits;
use vmc_types::PdbTypes;

use super::demangle;

/// Bytes that a demangled name may have here.
const LIMIT: usize = 2048;

/// Names of every kind: operators, templates, references to what came before, pointers to everything, what compilers make.
const NAMES: &[&str] = &[
    "?f@@YAXXZ",
    "?f@A@b@@QEBAHPEBDAEBHZZ",
    "?f@@9",
    "?f@@$$J0YAXXZ",
    "?x@@3PEBHEB",
    "?x@A@@2UB@@A",
    "?x@@3P8A@@EAAXXZEQ1@",
    "?f@@YAXP6AXH@Z@Z",
    "?f@@YAP6AHXZXZ",
    "?f@@YAXPEAP6AHXZ@Z",
    "?f@@YAXPEQA@@H@Z",
    "?f@@YAXP8A@@EAAXXZ@Z",
    "?f@@YAXPEAY01H@Z",
    "?f@@YAXAEAY01$$CBH@Z",
    "?f@@YAXQEAY02$$CBH@Z",
    "?f@@YAXPEBQBUA@@@Z",
    "?f@@YAXQEAPEAH@Z",
    "?f@@YAXAEIFCH@Z",
    "?f@@YAXPEFAH@Z",
    "?f@@YAX$$QEAH@Z",
    "?f@@YAX?AUA@@@Z",
    "?f@@YAXW4B@@@Z",
    "?f@@YAXZZ",
    "?f@@YAXX_E",
    "?f@@YAXDCEFGHIJKMNO_N_J_K_W_Q_S_U@Z",
    "?f@@YA?BHXZ",
    "?f@A@@QEHAAXXZ",
    "?f@A@@QEGBAXXZ",
    "?f@A@@WBA@EAAXXZ",
    "?f@A@@$4PPPPPPPM@A@EAAXXZ",
    "?f@A@@$R4BA@3BI@A@EAAXXZ",
    "?f@?A0x1234@@YAXXZ",
    "?f@@YAXV?$a@V?$b@H@c@@@d@@0@Z",
    "?f@n@@YAXUA@1@PEAU21@1@Z",
    "??0A@@QEAA@XZ",
    "??1?$A@H@B@@UEAA@XZ",
    "??$?0H@A@@QEAA@H@Z",
    "??$?0H@?$A@M@b@@QEAA@AEBV?$A@H@1@@Z",
    "??BA@@QEAAHXZ",
    "??$?BH@A@@QEAAHXZ",
    "??4A@@QEAAAEAU0@AEBU0@@Z",
    "??RA@@QEBA_NXZ",
    "??2@YAPEAX_K@Z",
    "??_U@YAPEAX_K@Z",
    "??__K_x@@YAXXZ",
    "??__L@YAXXZ",
    "??__M@YAXXZ",
    "??$f@H$0?4$S$$V@@YAXXZ",
    "??$f@$0HPPPPPPPPPPPPPPP@@@YAXXZ",
    "??$f@$0A@$00@@YAXXZ",
    "??$f@UA@@@@YAXPEIAH@Z",
    "??$f@$$BY02H@@YAXXZ",
    "??$f@$$CBUA@@@@YAXXZ",
    "??$f@$$T@@YAXXZ",
    "??$f@P6AXH@Z@@YAXXZ",
    "??$f@$1?x@@3HA@@YAXXZ",
    "??$f@$1?g@@YAXXZ@@YAXXZ",
    "??$f@$E?x@@3HA@@YAXXZ",
    "??$f@$H?g@A@@QEAAXXZA@@@YAXXZ",
    "??$f@$FA@A@@@YAXXZ",
    "??_7A@B@@6BC@@@",
    "??_7A@@6B@",
    "??_8A@@7B@",
    "??_SA@@6B@",
    "??_R0H@8",
    "??_R1A@?0A@EA@Base@@8",
    "??_R2A@@8",
    "??_R3A@@8",
    "??_R4A@@6B@",
    "??_9A@@$BA@AA",
    "??_EA@@UEAAPEAXI@Z",
    "??_GA@@UEAAPEAXI@Z",
    "??_FA@@QEAAXXZ",
    "??__Efoo@@YAXXZ",
    "??__Efoo@@3HA@YAXXZ",
    "??__E?foo@bar@@3HA@@YAXXZ",
    "??__Ffoo@@YAXXZ",
];

/// What llvm-undname says of each; nothing where it is not installed.
fn told(names: &[String]) -> Option<Vec<Option<String>>> {
    let less = [
        "no-calling-convention",
        "no-access-specifier",
        "no-member-type",
        "no-return-type",
        "no-variable-type",
    ];
    let started = Command::new("llvm-undname")
        .args(less.map(|what| format!("--{what}")))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut tool) = started else {
        crate::skipped::skip("llvm-undname is not installed");
        return None;
    };
    let mut to = tool.stdin.take().unwrap();
    let lines = names.join("\n") + "\n";
    let writer = std::thread::spawn(move || to.write_all(lines.as_bytes()).unwrap());
    let said = tool.wait_with_output().unwrap();
    writer.join().unwrap();
    // Each name, what it means (nothing where it is an error), an empty line.
    let text = String::from_utf8(said.stdout).unwrap();
    let mut lines = text.lines().peekable();
    let mut means = Vec::new();
    for name in names {
        assert_eq!(lines.next(), Some(name.as_str()));
        means.push(lines.next_if(|line| !line.is_empty()).map(str::to_owned));
        while lines.next_if(|line| line.is_empty()).is_some() {}
    }
    Some(means)
}

/// Without words that are left out here but that no option of the tool leaves out.
fn plain(text: &str) -> String {
    let mut text = text.to_owned();
    for word in ["__cdecl ", "__vectorcall ", "class ", "struct ", "union ", "enum "] {
        text = text.replace(word, "");
    }
    text
}

/// Holds our reading of the names against the tool's; how many were.
fn hold(names: &[String]) -> usize {
    let Some(told) = told(names) else { return 0 };
    let mut held = 0;
    for (name, told) in names.iter().zip(told) {
        // Inside quotation marks the tool tells the whole function; of functions as parameters it leaves out what they return; strings
        // it decodes; of descriptors it leaves out what they are of.
        let differs = |told: &String| told.contains("'::`") || told.contains("<(") || told.contains(", (");
        if told.as_ref().is_some_and(differs) || name.starts_with("??_C") || name.starts_with("??_R0") {
            assert!(demangle(name, LIMIT).is_some(), "{name}");
            continue;
        }
        assert_eq!(demangle(name, LIMIT), told.map(|told| plain(&told)), "{name}");
        held += 1;
    }
    held
}

#[test]
fn names_mean_what_llvm_undname_says() {
    let names: Vec<String> = NAMES.iter().map(|name| (*name).to_owned()).collect();
    println!("{} of {} names held", hold(&names), names.len());
}

#[test]
fn real_names_mean_what_llvm_undname_says() {
    let shared = std::env::var_os("VMC_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let mut names = Vec::new();
    for folder in ["x64", "ARM64"] {
        let Ok(entries) = std::fs::read_dir(shared.join("windows/seh").join(folder)) else {
            return crate::skipped::skip("the shared data's windows/seh is not there");
        };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.extension().is_some_and(|ending| ending == "pdb") {
                let types = PdbTypes::parse(&std::fs::read(&path).unwrap(), &Limits::default()).unwrap();
                let mangled = types.symbols().iter().filter(|symbol| symbol.name.starts_with(b"?"));
                names.extend(mangled.map(|symbol| String::from_utf8(symbol.name.to_vec()).unwrap()));
            }
        }
    }
    names.sort();
    names.dedup();
    println!("{} of {} names held", hold(&names), names.len());
    assert!(names.len() > 100);
}

#[test]
fn what_is_told_otherwise_than_llvm_does() {
    for (name, means) in [
        ("?x@?1??g@n@@YAHH@Z@4HA", "`n::g(int)'::`2'::x"),
        ("??_B?1??getS@@YAAAUS@@XZ@51", "`getS(void)'::`2'::`local static guard'{2}"),
        ("??__J?1??f@@YAXXZ@51", "`f(void)'::`2'::`local static thread guard'{2}"),
        ("?$TSS0@?1??foo@@YAXXZ@4HA", "`foo(void)'::`2'::$TSS0"),
        ("?f@@YAXPEAUA@?1??g@@YAXXZ@@Z", "f(`g(void)'::`2'::A *)"),
        ("??$f@$$A6AXH@Z@@YAXXZ", "f<void (int)>(void)"),
        ("??_R0?AVfoo@@@8", "foo `RTTI Type Descriptor'"),
        ("??_C@_03JMJLOIBA@abc?$AA@", "`string'"),
        (
            "?Present1@?QIDXGISwapChain4@@CDXGISwapChain@@UAGJII@Z",
            "CDXGISwapChain::[IDXGISwapChain4]::Present1(unsigned int, unsigned int)",
        ),
        // C++/CX.
        ("?ToString@Guid@Platform@@QE$AAAPE$AAVString@2@XZ", "Platform::Guid::ToString(void)"),
        ("?f@@YAXPE$AAVString@Platform@@AE$AAHP$AAH@Z", "f(Platform::String ^, int %, int ^)"),
        // Newer compilers: a parameter whose type is open.
        ("??$f@$MH00@@YAXXZ", "f<1>(void)"),
    ] {
        assert_eq!(demangle(name, LIMIT).as_deref(), Some(means), "{name}");
    }
}

#[test]
fn hostile_names_take_no_more_than_the_limits() {
    let repeated = |part: &str, times: usize| part.repeat(times);
    // Each type consists of ten of the one before it.
    let bomb: String = (0..9).map(|number| format!("P6AX{}@Z", number.to_string().repeat(10))).collect();
    let templates: String = (1..10).map(|number| format!("?$a@{}@@", "0".repeat(number))).collect();
    for (name, times) in [
        (format!("?f@@YAXP6AXHH@Z{bomb}@Z"), 1),
        (format!("?f@@YAXU{templates}@@@Z"), 1),
        (format!("?f@@YAX{}H@Z", repeated("PEA", 600)), 1),
        (format!("?f@@YAX{}H@Z", repeated("P6A", 100_000)), 1),
        (format!("?f@{}@YAXXZ", repeated("?1??f@", 10_000)), 1),
        (repeated("??$?0", 100_000), 1),
        (repeated("??$f@$1", 100_000), 1),
        (format!("?f@@YAXY{}H@Z", repeated("PPPPPPPP@", 1000)), 1),
        (format!("?f@{}@YAXXZ", repeated("aaaaaaaaaaaaaaa@", 60)) + &repeated("0", 100), 50),
        (repeated("?", 100_000), 1),
        (format!("?{}", repeated("é", 1000)), 1),
    ] {
        let started = Instant::now();
        for _ in 0..times {
            let found = demangle(&name, 512);
            assert!(found.is_none_or(|text| text.len() <= 512));
        }
        let took = started.elapsed();
        assert!(took < Duration::from_secs(1), "{took:?}: {}", name.get(..40).unwrap_or(&name));
    }
    // It is not the shape of the bomb that is refused.
    let spark = demangle("?f@@YAXP6AXHH@ZP6AX00@Z@Z", 512);
    assert_eq!(
        spark.as_deref(),
        Some("f(void (*)(int, int), void (*)(void (*)(int, int), void (*)(int, int)))")
    );
    // Depths that real names have are none of those.
    assert!(demangle(&format!("?f@@YAX{}H@Z", repeated("PEA", 40)), 512).is_some());
}

#[test]
fn damaged_names_are_left_as_they_are() {
    let mut state = 1u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for name in NAMES {
        for cut in 0..name.len() {
            demangle(name.get(..cut).unwrap(), LIMIT);
        }
        for _ in 0..200 {
            let mut letters = name.as_bytes().to_vec();
            for _ in 0..=next(3) {
                let (at, other) = (next(letters.len()), next(NAMES.len()));
                let other = NAMES.get(other).unwrap().as_bytes();
                *letters.get_mut(at).unwrap() = *other.get(next(other.len())).unwrap();
            }
            demangle(std::str::from_utf8(&letters).unwrap(), LIMIT);
        }
    }
    for wrong in
        ["?", "??", "?f", "?f@@", "?f@@YAXXZ_", "?f@@YAX9@Z", "?f@@YAX", "??_R1A@", "?9@@YAXXZ", "?@@YAXXZ"]
    {
        assert_eq!(demangle(wrong, LIMIT), None, "{wrong}");
    }
}
