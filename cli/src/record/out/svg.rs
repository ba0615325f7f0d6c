//! A flame graph as SVG: a box a function, as wide as the share of samples that had it on the stack there; its callers below,
//! what it called above. It opens in a browser, where a click enlarges a part and Ctrl-F or "search" marks names.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::folded::{Part, fold};
use crate::record::Per;
use crate::record::profile::Profile;

/// In pixels.
const WIDTH: f64 = 1200.0;
const MARGIN: f64 = 10.0;
const ROW: f64 = 17.0;
const HEAD: f64 = 44.0;
const FOOT: f64 = 26.0;
/// Boxes that are narrower are left out.
const NARROWEST: f64 = 0.1;
/// The width of a letter, on average.
const LETTER: f64 = 6.6;
/// Boxes above one another.
const DEEPEST: usize = 1100;

/// A function on a stack, with what it called there.
#[derive(Debug, Default)]
struct Node {
    count: u64,
    kernel: bool,
    below: BTreeMap<String, Node>,
}

impl Node {
    fn add(&mut self, stack: &[Part], count: u64) {
        self.count += count;
        let mut node = self;
        for part in stack.iter().take(DEEPEST) {
            node = node.below.entry(part.name.clone()).or_default();
            node.kernel = part.kernel;
            node.count += count;
        }
    }
}

/// A box.
struct Placed<'n> {
    name: &'n str,
    node: &'n Node,
    level: usize,
    x: f64,
    width: f64,
    root: bool,
}

/// Writes the flame graph.
pub(crate) fn write(
    profile: &Profile,
    per: Per,
    title: &str,
    subtitle: &str,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut root = Node::default();
    for (stack, count) in fold(profile, per) {
        root.add(&stack, count);
    }
    let roots = match per {
        Per::Process => 1,
        Per::Thread | Per::Cpu => 2,
    };
    let mut placed = Vec::new();
    let scale = (WIDTH - 2.0 * MARGIN) / root.count.max(1) as f64;
    // No call of this function a level: stacks may be deep.
    let mut open = vec![("all", &root, 0usize, MARGIN)];
    while let Some((name, node, level, x)) = open.pop() {
        let width = node.count as f64 * scale;
        if width < NARROWEST {
            continue;
        }
        placed.push(Placed { name, node, level, x, width, root: level <= roots });
        let mut at = x;
        for (name, below) in &node.below {
            open.push((name, below, level + 1, at));
            at += below.count as f64 * scale;
        }
    }
    let levels = placed.iter().map(|one| one.level).max().unwrap_or(0);
    let height = HEAD + (levels + 1) as f64 * ROW + FOOT;
    head(height, title, subtitle, out)?;
    for one in &placed {
        let y = height - FOOT - (one.level + 1) as f64 * ROW;
        let share = one.node.count as f64 * 100.0 / root.count.max(1) as f64;
        let kernel = if one.node.kernel { " [k]" } else { "" };
        let name = escaped(one.name);
        writeln!(
            out,
            "<g><title>{name}{kernel} ({} samples, {share:.2} %)</title><rect x=\"{:.2}\" y=\"{y:.0}\" width=\"{:.2}\" height=\"{:.0}\" fill=\"{}\"/><text x=\"{:.2}\" y=\"{:.0}\">{}</text></g>",
            one.node.count,
            one.x,
            one.width,
            ROW - 1.0,
            colour(one),
            one.x + 3.0,
            y + 12.0,
            escaped(&fitting(one.name, one.width)),
        )?;
    }
    writeln!(out, "</g>\n<text id=\"told\" x=\"{MARGIN}\" y=\"{:.0}\"></text>\n</svg>", height - 8.0)
}

/// As much of a name as a box of this width holds.
fn fitting(name: &str, width: f64) -> String {
    let letters = ((width - 6.0) / LETTER).max(0.0) as usize;
    if name.chars().count() <= letters {
        return name.to_owned();
    }
    if letters < 3 {
        return String::new();
    }
    name.chars().take(letters - 2).chain("..".chars()).collect()
}

/// Warm colours for programs, cooler ones for the kernel, grey for what stands below the frames; the same name, the same colour.
fn colour(one: &Placed<'_>) -> String {
    // FNV-1a, of which a few bits are enough.
    let mixed =
        one.name.bytes().fold(0x811c_9dc5u32, |sum, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let (first, second) = (mixed >> 8 & 63, mixed >> 16 & 63);
    let (red, green, blue) = match (one.root, one.node.kernel) {
        (true, _) => (206, 206, 200 + first / 4),
        (_, true) => (90 + first, 160 + second / 2, 205 + first / 2),
        (_, false) => (225 + first / 3, 110 + second * 2, 40 + first / 2),
    };
    format!("rgb({red},{green},{blue})")
}

/// Text as XML has it. What XML cannot hold at all was made printable before.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => safe.push('\u{fffd}'),
            _ => safe.push(letter),
        }
    }
    safe
}

fn head(height: f64, title: &str, subtitle: &str, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"no\"?>")?;
    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" version=\"1.1\" width=\"{WIDTH}\" height=\"{height:.0}\" viewBox=\"0 0 {WIDTH} {height:.0}\" font-family=\"Verdana, DejaVu Sans, sans-serif\" font-size=\"11\">"
    )?;
    writeln!(
        out,
        "<style>g rect:hover{{stroke:#000;stroke-width:.6;cursor:pointer}} text{{pointer-events:none;fill:#111}} .button{{pointer-events:all;cursor:pointer;fill:#555}}</style>"
    )?;
    writeln!(out, "<rect width=\"100%\" height=\"100%\" fill=\"#fbfaf6\"/>")?;
    writeln!(
        out,
        "<text x=\"{:.0}\" y=\"20\" font-size=\"16\" text-anchor=\"middle\">{}</text>",
        WIDTH / 2.0,
        escaped(&vmc::text::printable(title).to_string())
    )?;
    writeln!(
        out,
        "<text x=\"{:.0}\" y=\"36\" text-anchor=\"middle\" fill=\"#555\">{}</text>",
        WIDTH / 2.0,
        escaped(&vmc::text::printable(subtitle).to_string())
    )?;
    writeln!(
        out,
        "<text class=\"button\" id=\"all\" x=\"{MARGIN}\" y=\"20\" visibility=\"hidden\">show all</text>"
    )?;
    writeln!(
        out,
        "<text class=\"button\" id=\"search\" x=\"{:.0}\" y=\"20\" text-anchor=\"end\">search</text>",
        WIDTH - MARGIN
    )?;
    writeln!(out, "<script><![CDATA[{SCRIPT}]]></script>\n<g id=\"frames\">")
}

/// Enlarging and searching, in the browser.
const SCRIPT: &str = r##"
window.addEventListener('load', function () {
  var left = 10, width = 1180, letter = 6.6;
  var boxes = Array.prototype.map.call(document.querySelectorAll('#frames > g'), function (g) {
    var rect = g.querySelector('rect'), full = g.querySelector('title').textContent;
    return {g: g, rect: rect, text: g.querySelector('text'), full: full,
      name: full.replace(/ \(\d+ samples, [\d.]+ %\)$/, ''), fill: rect.getAttribute('fill'),
      x: +rect.getAttribute('x'), w: +rect.getAttribute('width'), y: +rect.getAttribute('y')};
  });
  var told = document.getElementById('told'), all = document.getElementById('all');
  function show(from, w, y) {
    var scale = width / w;
    boxes.forEach(function (b) {
      var below = b.y > y, x = (b.x - from) * scale + left, bw = b.w * scale;
      if (below && b.x <= from + 0.01 && b.x + b.w >= from + w - 0.01) { x = left; bw = width; }
      else if (below || b.x < from - 0.01 || b.x + b.w > from + w + 0.01) { b.g.style.display = 'none'; return; }
      b.g.style.display = '';
      b.rect.setAttribute('x', x); b.rect.setAttribute('width', bw); b.text.setAttribute('x', x + 3);
      var n = Math.max(0, Math.floor((bw - 6) / letter)), name = Array.from(b.name);
      b.text.textContent = name.length <= n ? b.name : n < 3 ? '' : name.slice(0, n - 2).join('') + '..';
    });
  }
  boxes.forEach(function (b) {
    b.rect.addEventListener('click', function () { show(b.x, b.w, b.y); all.setAttribute('visibility', 'visible'); });
    b.g.addEventListener('mouseover', function () { told.textContent = b.full; });
    b.g.addEventListener('mouseout', function () { told.textContent = ''; });
  });
  all.addEventListener('click', function () { show(left, width, 1e9); all.setAttribute('visibility', 'hidden'); });
  function search() {
    var what = prompt('Mark functions whose name matches (regular expression):', '');
    if (what === null) return;
    var found; try { found = what && new RegExp(what); } catch (e) { alert(e); return; }
    boxes.forEach(function (b) { b.rect.setAttribute('fill', found && found.test(b.name) ? '#d020d0' : b.fill); });
  }
  document.getElementById('search').addEventListener('click', search);
  window.addEventListener('keydown', function (e) { if (e.ctrlKey && e.key === 'f') { e.preventDefault(); search(); } });
});
"##;
