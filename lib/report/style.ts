/** Style of reports: light and dark, wide and narrow, screen and paper. */
export const kStyle = `
:root{--page:#f6f7f9;--card:#fff;--text:#1b2027;--soft:#59636f;--rule:#e1e5ea;--grid:#e8ebef;--accent:#0b6bcb;--good:#0f7b45;--bad:#b42318;--wait:#9a6300;
--c0:#0b6bcb;--c1:#c2410c;--c2:#0f7b55;--c3:#9333b8;--c4:#a16207;--c5:#be185d;--c6:#0e7490;--c7:#52525b;
--sans:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;--mono:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
@media screen and (prefers-color-scheme:dark){:root{--page:#0f1318;--card:#171c23;--text:#e7ebf0;--soft:#9aa6b3;--rule:#2a323c;--grid:#242c35;--accent:#6db3ff;--good:#4cc38a;--bad:#ff8a7d;--wait:#f0b64d;
--c0:#6db3ff;--c1:#ff9b63;--c2:#4cc9a0;--c3:#cf93f0;--c4:#e6bd4f;--c5:#ff8fbd;--c6:#5fd0e6;--c7:#b4bcc6}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--text);font:15px/1.5 var(--sans)}
main{max-width:1180px;margin:0 auto;padding:28px 24px 48px}
h1,h2,h3,p,figure,ul{margin:0;padding:0}
header{display:flex;flex-wrap:wrap;align-items:center;gap:4px 12px;margin-bottom:20px}
h1{font-size:26px;line-height:1.25;letter-spacing:-.01em;overflow-wrap:anywhere}
header p{flex-basis:100%;color:var(--soft);overflow-wrap:anywhere}
h2{font-size:17px;margin:32px 0 12px}
h3{font-size:15px;font-weight:600}
.status{font-size:13px;font-weight:600;padding:2px 10px;border-radius:99px;border:1px solid currentColor}
.status.done{color:var(--good)}.status.failed,.status.killed{color:var(--bad)}.status.running,.status.cancelled{color:var(--wait)}.status.unknown{color:var(--soft)}
.notice{border-left:3px solid var(--bad);background:var(--card);padding:10px 14px;border-radius:4px;margin-bottom:16px;overflow-wrap:anywhere}
.tiles{display:grid;grid-template-columns:repeat(4,1fr);gap:12px;list-style:none}
.tiles li,.card,.chart{background:var(--card);border:1px solid var(--rule);border-radius:10px}
.tiles li{padding:12px 16px;display:flex;flex-direction:column}
.tiles span{color:var(--soft);font-size:13px}
.tiles b{font-size:22px;line-height:1.3;font-weight:600;font-variant-numeric:tabular-nums;letter-spacing:-.01em}
.charts{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:12px}
.chart{padding:14px 16px 10px;min-width:0;position:relative;display:flex;flex-direction:column}
.chart.wide{grid-column:1/-1}
figcaption p{color:var(--soft);font-size:13px}
.legend{display:flex;flex-wrap:wrap;gap:2px 16px;list-style:none;font-size:13px;margin-top:6px}
.legend li{display:flex;align-items:center;gap:7px;overflow-wrap:anywhere}
.key{flex:none;width:18px;height:0;border-top:2.5px solid currentColor}
.key.faint{opacity:.45;border-top-width:2px}.key.dashed{border-top-style:dashed}
.key.marked{position:relative}.key.marked:after{content:"";position:absolute;left:5.5px;top:-5px;width:7px;height:7px;border-radius:50%;background:currentColor}
i.c0{color:var(--c0)}i.c1{color:var(--c1)}i.c2{color:var(--c2)}i.c3{color:var(--c3)}i.c4{color:var(--c4)}i.c5{color:var(--c5)}i.c6{color:var(--c6)}i.c7{color:var(--c7)}
.plot{position:relative;flex:1 0 210px;margin:14px 0 4px;border-radius:6px;outline-offset:4px;outline-color:var(--accent);touch-action:pan-y}
.wide .plot{flex-basis:320px}
.area{position:absolute;inset:0 10px 24px 62px}
svg{display:block;width:100%;height:100%;overflow:visible}
path{fill:none;vector-effect:non-scaling-stroke;stroke-linejoin:round;stroke-linecap:round}
.grid{stroke:var(--grid);stroke-width:1}
.line{stroke-width:2}.line.faint{stroke-width:1.25;opacity:.4}.line.dashed{stroke-width:1.5;stroke-dasharray:5 5}
.marks{stroke-width:7}
path.c0{stroke:var(--c0)}path.c1{stroke:var(--c1)}path.c2{stroke:var(--c2)}path.c3{stroke:var(--c3)}path.c4{stroke:var(--c4)}path.c5{stroke:var(--c5)}path.c6{stroke:var(--c6)}path.c7{stroke:var(--c7)}
.ylabels,.xlabels{position:absolute;color:var(--soft);font-size:12px;font-variant-numeric:tabular-nums;line-height:1}
.ylabels{left:0;top:0;bottom:24px;width:54px}
.ylabels span{position:absolute;right:0;transform:translateY(50%);white-space:nowrap}
.xlabels{left:62px;right:10px;bottom:0;height:12px}
.xlabels span{position:absolute;transform:translateX(-50%);white-space:nowrap}
.cursor{position:absolute;top:0;bottom:0;width:1px;background:var(--soft);pointer-events:none}
.dot{position:absolute;width:9px;height:9px;margin:-4.5px;border-radius:50%;border:2px solid var(--card);pointer-events:none}
.tip{position:absolute;top:0;z-index:2;background:var(--card);border:1px solid var(--rule);border-radius:8px;box-shadow:0 4px 16px #0003;padding:7px 11px;font-size:13px;line-height:1.45;pointer-events:none;white-space:nowrap;font-variant-numeric:tabular-nums;width:max-content;max-width:min(340px,100%)}
.tip div{display:flex;align-items:center;gap:8px}
.tip span{overflow:hidden;text-overflow:ellipsis}
.tip b{margin-left:auto;padding-left:10px;font-weight:600}
[hidden]{display:none}
details{font-size:13px}
summary{color:var(--soft);cursor:pointer;width:max-content;padding:2px 0}
.scroll{overflow-x:auto}
.chart .scroll{max-height:300px;overflow-y:auto;margin-top:6px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
caption{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
th,td{text-align:left;padding:6px 12px 6px 0;border-bottom:1px solid var(--rule);vertical-align:top}
th{font-weight:500;color:var(--soft)}
.number{text-align:right}
thead th,td .status{white-space:nowrap}
.scroll tbody th{white-space:nowrap}
tr:last-child>*{border-bottom:0}
.card{padding:12px 16px}
.facts th{white-space:nowrap;width:1%;padding-right:20px}
.facts td{overflow-wrap:anywhere}
td b{font-weight:650}
td .key,th .key{display:inline-block;vertical-align:middle;margin-right:8px}
.columns{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:12px;align-items:start}
.columns h2:first-child{margin-top:32px}
pre{margin:0;font:13px/1.55 var(--mono);white-space:pre-wrap;overflow-wrap:anywhere;tab-size:2}
pre .k{color:var(--accent)}
.sample{margin-bottom:12px}
.sample h3{font:600 13px/1.5 var(--sans);color:var(--soft)}
.sample .prompt{font-weight:600;padding-bottom:10px;white-space:pre-wrap;overflow-wrap:anywhere}
.sample .columns{column-gap:28px}
.sample .columns>div{border-top:1px solid var(--rule);padding-top:8px}
.sample .text{white-space:pre-wrap;overflow-wrap:anywhere}
.soft{color:var(--soft)}
footer{margin-top:28px;color:var(--soft);font-size:13px;overflow-wrap:anywhere}
code{font:.92em var(--mono)}
@media (max-width:900px){.tiles{grid-template-columns:repeat(2,1fr)}}
@media (max-width:700px){main{padding:18px 14px 32px}.charts,.columns{grid-template-columns:minmax(0,1fr)}h1{font-size:22px}.tiles{gap:8px}.tiles li{padding:10px 12px}.tiles b{font-size:19px}
.chart{padding:12px 12px 8px}.area{left:52px;right:6px}.ylabels{width:45px}.xlabels{left:52px;right:6px}.wide .plot{flex-basis:250px}.columns h2:nth-child(n){margin-top:24px}.columns>section+section h2{margin-top:8px}}
@media print{:root{--page:#fff}body{font-size:11px}main{max-width:none;padding:0}.tiles{grid-template-columns:repeat(4,1fr)}.tiles b{font-size:16px}.charts,.columns{grid-template-columns:repeat(2,minmax(0,1fr))}
.chart,.card,.tiles li,tr{break-inside:avoid}h2,h3{break-after:avoid}pre{font-size:9px;line-height:1.4}h1{font-size:20px}h2{font-size:14px;margin-top:18px}h3,.sample h3{font-size:12px}.chart{padding:10px 12px}.legend,figcaption p,.tiles span{font-size:10px}.xlabels,.ylabels{font-size:9px}.chart details,.cursor,.dot,.tip{display:none}.scroll{overflow:visible}.plot{flex-basis:150px}.wide .plot{flex-basis:210px}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}@page{margin:14mm}}
@media (forced-colors:active){.line,.marks{forced-color-adjust:none}}
`;
