"""Colours and the style sheet, for light and dark screens, wide and narrow ones.

Series take the hues of Okabe and Ito, which stay apart for colour-blind readers, and differ in marker too. Pictures and
text refer to all colours by the names of CSS variables, so one file serves both modes.
"""

from collections.abc import Sequence

Rgb = tuple[int, int, int]

SERIES_LIGHT = ("#0072b2", "#d55e00", "#00906a", "#a8558a", "#8a6d00", "#4a4a4a")
SERIES_DARK = ("#5ab4e8", "#f28e4c", "#3fc79c", "#dd9bc4", "#dcb93e", "#b9b9b9")
"""One colour a run, in the order they are given; more runs begin again."""
LEVELS = 24
"""Shades of a colour scale."""

_ENERGY_LIGHT = ("#86bbe0", "#f4f2ec", "#f0a069")
_ENERGY_DARK = ("#1c5f8f", "#24272c", "#9c4f1c")
_SURPRISE_LIGHT = ("#f4f2ec", "#dcb3d0", "#bb6ba3")
_SURPRISE_DARK = ("#24272c", "#5c3350", "#93487c")

SCALES = {"e": (_ENERGY_LIGHT, _ENERGY_DARK), "s": (_SURPRISE_LIGHT, _SURPRISE_DARK)}
"""Class prefixes of the shades: ``e`` for energies (low to high), ``s`` for surprise (none to much)."""


def style_sheet() -> str:
    """All of the page's CSS."""
    light, dark = _variables(SERIES_LIGHT, 0), _variables(SERIES_DARK, 1)
    return f":root{{{_LIGHT}{light}}}@media(prefers-color-scheme:dark){{:root{{{_DARK}{dark}}}}}{_shades()}{_RULES}"


def gradient(scale: str) -> str:
    """A colour scale as a CSS background, from low to high."""
    return f"linear-gradient(to right,{','.join(f'var(--{scale}{i})' for i in range(LEVELS))})"


def blend(anchors: Sequence[str], share: float) -> str:
    """The colour at ``share`` (0 to 1) of the way along evenly spaced anchors."""
    place = min(max(share, 0.0), 1.0) * (len(anchors) - 1)
    index = min(int(place), len(anchors) - 2)
    low, high = _rgb(anchors[index]), _rgb(anchors[index + 1])
    mixed = (round(a + (b - a) * (place - index)) for a, b in zip(low, high, strict=True))
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def _rgb(colour: str) -> Rgb:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _variables(series: Sequence[str], mode: int) -> str:
    lines = [f"--c{i}:{colour}" for i, colour in enumerate(series)]
    for prefix, scales in SCALES.items():
        lines += [f"--{prefix}{i}:{blend(scales[mode], i / (LEVELS - 1))}" for i in range(LEVELS)]
    return ";".join(lines)


def _shades() -> str:
    return "".join(f".{p}{i}{{background:var(--{p}{i})}}" for p in SCALES for i in range(LEVELS))


_LIGHT = "color-scheme:light dark;--paper:#fdfcf9;--ink:#1c1d20;--muted:#62656c;--line:#dedbd3;--grid:#e9e6df;--card:#f6f4ee;"
_DARK = "--paper:#16181b;--ink:#e7e4dd;--muted:#a09e98;--line:#373a40;--grid:#2a2d32;--card:#1e2125;"

_RULES = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);
  font:17px/1.58 Charter,"Bitstream Charter","Iowan Old Style",Georgia,"DejaVu Serif",serif}
main,header,footer{max-width:66rem;margin:0 auto;padding:0 1.25rem}
header{padding-top:3.5rem}
h1,h2,h3,table,p.note,figcaption,.key,.cards,nav,footer,summary,.bar,.muted,svg.plot,.launch{
  font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,"DejaVu Sans",sans-serif}
h1{font-size:2.1rem;line-height:1.18;letter-spacing:-.018em;font-weight:650;margin:0 0 .7rem;max-width:40rem;
  text-wrap:balance}
h2{font-size:1.36rem;line-height:1.25;letter-spacing:-.01em;font-weight:640;margin:0 0 .7rem}
h3{font-size:.86rem;line-height:1.35;font-weight:600;margin:0 0 .35rem}
p{max-width:42rem;margin:0 0 1rem}
p.lead{font-size:1.12rem;color:var(--ink);max-width:44rem}
section{margin:3.4rem 0 0;padding-top:2rem;border-top:1px solid var(--line)}
nav{display:flex;flex-wrap:wrap;gap:.3rem 1.25rem;font-size:.86rem;margin:1.4rem 0 0}
nav a{color:var(--muted);text-decoration:none;border-bottom:1px solid var(--line);padding-bottom:1px}
nav a:hover{color:var(--ink);border-color:currentColor}
.muted{color:var(--muted);font-size:.84em}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(13.5rem,1fr));gap:1rem;margin:2rem 0 0}
.card{background:var(--card);border-radius:10px;padding:1.05rem 1.2rem 1.1rem;border-top:4px solid var(--hue)}
.card b{display:block;font-weight:600;font-size:.95rem}
.card .big{font-size:2.15rem;font-weight:640;letter-spacing:-.025em;line-height:1.25;font-variant-numeric:tabular-nums}
.card .big small{font-size:.86rem;font-weight:450;letter-spacing:0;color:var(--muted)}
.card div{font-size:.86rem;line-height:1.5;color:var(--muted)}
.card div.big{color:var(--ink)}
.scroll{overflow-x:auto;margin:1.4rem 0}
table{border-collapse:collapse;font-size:.88rem;line-height:1.4;min-width:min(100%,34rem);
  font-variant-numeric:tabular-nums lining-nums}
p.note{font-size:.88rem;line-height:1.5;color:var(--muted);margin:-.6rem 0 1.4rem}
.factor{color:var(--muted);font-size:.84em;padding-right:.6em;font-weight:400}
th,td{padding:.36rem 0 .36rem 1.5rem;text-align:right;vertical-align:baseline;font-weight:400;white-space:nowrap}
th:first-child{text-align:left;padding-left:0;white-space:normal;min-width:11rem}
thead th{font-weight:600;border-bottom:1.5px solid var(--ink);vertical-align:bottom;white-space:normal;max-width:9rem}
tbody tr+tr>*{border-top:1px solid var(--grid)}
tbody tr.group>*{padding-top:1.1rem;font-weight:600;color:var(--muted);font-size:.82rem;border-top:0}
tbody tr.group+tr>*{border-top:1px solid var(--line)}
tbody tr.strong>*{font-weight:650}
table.texts td{text-align:left;white-space:normal;overflow-wrap:anywhere;min-width:6rem}
table.texts thead th{text-align:left}
table.texts :is(td,tbody th){font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;
  font-size:.79rem}
figure{margin:1.9rem 0 0}
figcaption{font-size:.88rem;line-height:1.5;color:var(--muted);max-width:46rem;margin-top:.8rem}
.panels{display:grid;gap:1.6rem 2rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,25rem),1fr))}
.panels.n1{max-width:34rem}
.panels.n3{grid-template-columns:repeat(auto-fit,minmax(min(100%,17rem),1fr))}
.panels.wide{grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr))}
.panel{min-width:0}
h3 .muted{font-weight:400}
.apart{margin-top:2.2rem}
svg.plot{display:block;width:100%;height:auto;overflow:visible}
svg.plot *{stroke-linejoin:round;stroke-linecap:butt}
.key{display:flex;flex-wrap:wrap;gap:.25rem 1.35rem;font-size:.86rem;margin:0 0 1rem;padding:0;list-style:none}
.key li{display:flex;align-items:center;gap:.5rem}
.key svg{flex:none}
pre.code{margin:0;padding:.8rem .9rem;background:var(--card);border-radius:8px;overflow-x:auto;
  font:11.5px/1.62 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;tab-size:4}
pre.code span{padding:.16em 0}
pre.code .nl{opacity:.32}
pre.code .before{color:var(--muted)}
.bar{display:flex;align-items:center;gap:.7rem;font-size:.8rem;color:var(--muted);margin:0 0 1rem;
  font-variant-numeric:tabular-nums}
.bar i{display:block;flex:0 1 15rem;height:.72rem;border-radius:3px}
.rows{margin-top:2rem}
details{margin:1.2rem 0 0}
details>p{margin-top:.9rem}
summary{cursor:pointer;font-size:.9rem;color:var(--muted)}
summary:hover{color:var(--ink)}
.launch{font-size:.86rem;line-height:1.55;margin:1.1rem 0 0}
.launch b{font-weight:600}
.launch pre,pre.config{margin:.35rem 0;padding:.6rem .8rem;background:var(--card);border-radius:8px;white-space:pre-wrap;
  overflow-wrap:anywhere;font:12px/1.55 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
footer{margin-top:3.5rem;padding-bottom:3rem;font-size:.82rem;color:var(--muted)}
@media(max-width:36rem){
  body{font-size:16px}header{padding-top:2rem}h1{font-size:1.62rem}section{margin-top:2.4rem;padding-top:1.5rem}
  table{font-size:.8rem}th,td{padding-left:.8rem}th:first-child{min-width:6.2rem;padding-right:.2rem}
  tr>:first-child{position:sticky;left:0;background:var(--paper)}.factor{display:block;padding:0}
  thead :is(br,.muted){display:none}
  .cards{grid-template-columns:1fr;gap:.7rem}pre.code{font-size:10.5px;padding:.7rem}
}
@media print{section{break-inside:avoid}}
"""
