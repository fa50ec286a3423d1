'use strict';
// The dashboard: asks the REST interface every three seconds and shows what it
// says. Data gets into the page as text nodes and attributes only; there is no
// HTML made from strings anywhere in this file.

const API = '/api/v1', EVERY = 3000, KEY = 'flowcordon-token';
const $ = id => document.getElementById(id);
const main = $('main');
let me = null;      // {name, role} of the token
let view = null;    // {update()} of the page shown
let timer = 0, turn = 0;

// el makes an element; attributes that begin with "on" are listeners.
function el(tag, attrs, ...kids) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attrs || {})) {
    if (v === undefined || v === null || v === false) continue;
    if (k.startsWith('on')) e.addEventListener(k.slice(2), v);
    else e.setAttribute(k, v === true ? '' : v);
  }
  e.append(...kids.flat().filter(k => k !== null && k !== undefined && k !== ''));
  return e;
}

// put replaces the contents of box and keeps the keyboard's place in it.
function put(box, ...kids) {
  const at = box.contains(document.activeElement) && document.activeElement.getAttribute('href');
  box.replaceChildren(...kids.flat().filter(Boolean));
  if (at) for (const a of box.querySelectorAll('a')) if (a.getAttribute('href') === at) { a.focus({ preventScroll: true }); break; }
}

class Problem extends Error {
  constructor(status, detail) { super(detail); this.status = status; }
}

async function call(path, body) {
  const token = sessionStorage.getItem(KEY);
  const opt = { headers: { Authorization: 'Bearer ' + token, Accept: 'application/json' } };
  if (body) { opt.method = 'POST'; opt.body = JSON.stringify(body); opt.headers['Content-Type'] = 'application/json'; }
  let res;
  try { res = await fetch(API + path, opt); } catch { throw new Problem(0, 'flowcordon does not answer. Is the service running? Trying again every three seconds.'); }
  const json = await res.json().catch(() => ({}));
  if (!res.ok) throw new Problem(res.status, json.detail || 'the answer was ' + res.status);
  return json;
}

// ---- words ----
const RULES = { netscan: 'network scan', portscan: 'port scan', blockscan: 'block scan', udp_sweep: 'UDP sweep', icmp_sweep: 'ping sweep', syn_flood: 'SYN flood', udp_flood: 'UDP flood', icmp_flood: 'ICMP flood', packet_flood: 'packet flood', reflector: 'reflector', spam: 'spam', bruteforce: 'password guessing', blocked_port: 'blocked port', spoofed_source: 'spoofed source' };
const STATES = { open: 'recorded', notified: 'written to', held: 'held back', awaiting_approval: 'waits for approval', suspending: 'being cut', suspended: 'cut, checking', verified: 'cut, traffic gone', unverified: 'cut, traffic goes on', failed: 'cut failed', releasing: 'being released', released: 'released', closed: 'closed' };
const TONE = { held: 'warn', awaiting_approval: 'warn', suspending: 'warn', suspended: 'cut', verified: 'cut', unverified: 'bad', failed: 'bad', releasing: 'warn', released: 'ok', closed: 'ok' };
const RANK = { viewer: 1, abuse: 2, operator: 3, admin: 4 };

const num = (n, unit) => {
  for (const [f, p] of [[1e12, ' T'], [1e9, ' G'], [1e6, ' M'], [1e3, ' k']]) if (n >= f) return (n / f).toFixed(n / f < 10 ? 2 : 1) + p + unit;
  return (n < 10 && n % 1 ? n.toFixed(1) : Math.round(n)) + ' ' + unit;
};
const whole = n => Number(n || 0).toLocaleString('en');
const stamp = t => t && !t.startsWith('0001-') ? t.slice(0, 19).replace('T', ' ') : '–';
function ago(t) {
  if (!t || t.startsWith('0001-')) return '–';
  const s = Math.max(0, (Date.now() - Date.parse(t)) / 1000);
  for (const [f, u] of [[86400, 'd'], [3600, 'h'], [60, 'min']]) if (s >= f) return Math.floor(s / f) + ' ' + u;
  return Math.floor(s) + ' s';
}
const hostLink = ip => el('a', { href: '#/hosts/' + encodeURIComponent(ip), class: 'mono' }, ip);
const badge = s => el('span', { class: 'badge ' + (TONE[s] || '') }, STATES[s] || s);
const rules = r => (r || []).map(x => RULES[x] || x).join(', ') || '–';
const holder = h => h ? [h.tenant, h.vds].filter(Boolean).join(' · ') : 'not in the inventory';
const why = i => i.findings?.[0]?.reason || i.reason || '–';
const proto = n => ({ 1: 'icmp', 6: 'tcp', 17: 'udp', 58: 'icmpv6' })[n] || String(n);
const span = s => s < 60 ? s + ' s' : s < 3600 ? s / 60 + ' min' : s / 3600 + ' h';

// table shows rows (arrays of cells) or a sentence when there are none. The
// header text goes along with each cell for phone width.
function table(caption, heads, rows, empty) {
  if (!rows.length) return el('p', { class: 'empty' }, empty);
  const clean = heads.map(h => h.replace('>', ''));
  return el('table', {}, el('caption', { class: 'vh' }, caption),
    el('thead', {}, el('tr', {}, heads.map((h, i) => el('th', { scope: 'col', class: h.startsWith('>') ? 'r' : null }, clean[i])))),
    el('tbody', {}, rows.map(r => el('tr', {}, r.map((c, i) => el('td', { 'data-h': clean[i], class: heads[i].startsWith('>') ? 'r' : null }, c))))));
}
function section(title, extra) {
  const box = el('div', {}, el('p', { class: 'empty' }, 'Loading…'));
  return { box, node: el('section', {}, el('div', { class: 'head' }, el('h2', {}, title), extra), box) };
}
function facts(pairs) {
  return el('dl', {}, pairs.filter(p => p[1]).map(([k, v]) => el('div', {}, el('dt', {}, k), el('dd', {}, v))));
}

// ---- pages ----
function overview() {
  const inc = section('Open incidents');
  const by = el('select', { id: 'by', onchange: () => refresh() },
    [['out_bytes', 'bytes out'], ['out_packets', 'packets out'], ['in_bytes', 'bytes in'], ['in_packets', 'packets in'], ['syn', 'SYN out']].map(([v, t]) => el('option', { value: v }, t)));
  const top = section('Top talkers, last 5 minutes', el('span', {}, el('label', { for: 'by' }, 'by '), by));
  const exp = section('Exporters');
  main.replaceChildren(el('h1', { class: 'vh', tabindex: '-1' }, 'Overview'), inc.node, top.node, exp.node);
  return {
    title: 'Overview',
    async update(mine) {
      const parts = await Promise.allSettled([call('/incidents?state=live&limit=100'), call('/top?window=5m&limit=15&by=' + by.value), call('/exporters')]);
      if (!mine()) return;
      if (parts[0].value) put(inc.box, incidentTable(parts[0].value.incidents), more(parts[0].value._metadata));
      if (parts[1].value) put(top.box, topTable(parts[1].value.top));
      if (parts[2].value) put(exp.box, exporterTable(parts[2].value.exporters));
      for (const p of parts) if (p.reason) throw p.reason;
    },
  };
}
const more = m => m.totalCount > m.limit ? el('p', { class: 'note' }, `The newest ${m.limit} of ${whole(m.totalCount)}.`) : null;

function incidentTable(list) {
  return table('Open incidents', ['State', 'Address', 'Tenant', 'What', 'Why', 'Age'], list.map(i => [
    badge(i.state), hostLink(i.tenant), holder(i.holder?.tenant ? i.holder : null),
    el('a', { href: '#/incidents/' + encodeURIComponent(i.id) }, rules(i.rules)), why(i),
    el('time', { datetime: i.opened, title: 'opened ' + stamp(i.opened) }, ago(i.opened))]), 'No open incidents. Nobody is scanning or flooding others as far as the exporters show.');
}
function topTable(list) {
  return table('Top talkers', ['Address', 'Tenant', '>Out', '>In', '>Packets out', '>SYN samples', ''], list.map(t => [
    hostLink(t.tenant), holder(t.holder), num(t.est_out_bytes * 8 / 300, 'bit/s'), num(t.est_in_bytes * 8 / 300, 'bit/s'),
    num(t.est_out_packets / 300, 'pkt/s'), whole(t.syn_out),
    t.incidents.length ? el('a', { href: '#/incidents/' + encodeURIComponent(t.incidents[0]) }, 'incident') : '']), 'No traffic in the last five minutes. The exporters below show whether anything arrives.');
}
function exporterTable(list) {
  return table('Exporters', ['Exporter', 'Protocol', 'Last seen', '>Records', '>Lost', '>Dropped', 'Sampling', 'Problems'], list.map(e => [
    el('span', { class: 'mono' }, e.exporter), e.protocols.join(', '), ago(e.last_seen) + ' ago', whole(e.records), whole(e.lost),
    whole(Object.values(e.dropped).reduce((a, b) => a + b, 0)),
    [...new Set(e.samplers.map(s => s.rate ? '1:' + whole(s.rate) + ' (' + s.source + ')' : 'unknown'))].join(', ') || '–',
    e.problems.length ? el('ul', { class: 'bad-text' }, e.problems.map(p => el('li', {}, p))) : el('span', { class: 'ok-text' }, 'none')]),
  'No exporter has sent anything yet. Point your routers at the addresses under listen: and add them to exporters.allow.');
}

const LOGS = { netscan: 'Netscan list', summary: 'Rates by remote address', packets: 'Packets' };
function incidentPage(id) {
  const head = el('div'), act = el('div'), ev = section('Evidence'), line = section('Timeline');
  main.replaceChildren(el('p', {}, el('a', { href: '#/' }, '← Overview')), head, act, ev.node, line.node);
  let shown = '', gotLogs = false;
  return {
    title: 'Incident ' + id,
    async update(mine) {
      const path = '/incidents/' + encodeURIComponent(id);
      const { incident: i, events } = await call(path);
      if (!mine()) return;
      put(head, el('h1', { tabindex: '-1' }, rules(i.rules) + ' from ', hostLink(i.tenant), ' ', badge(i.state)),
        facts([['Holder', holder(i.holder?.tenant ? i.holder : null)], ['Contact', i.holder?.contact], ['Hypervisor', i.holder?.hypervisor], ['Opened', stamp(i.opened) + ' (' + ago(i.opened) + ' ago)'],
          ['Why it stands here', i.reason], ['Last error', i.restore?.error || i.action?.error], ['Statement', i.statement], ['Id', el('span', { class: 'mono' }, i.id)]]),
        el('ul', { class: 'findings' }, i.findings.map(f => el('li', {}, el('strong', {}, (RULES[f.rule] || f.rule) + ': '), f.reason,
          el('span', { class: 'note' }, ` Score ${f.score.toFixed(1)} of ${f.threshold.toFixed(1)} needed, ${whole(f.samples)} samples at 1:${whole(Math.round(f.sampling_rate))}, ${stamp(f.from)} to ${stamp(f.to).slice(11)}.`,
            f.gates?.length ? ' Held back by: ' + f.gates.join(', ') + '.' : '')))));
      const key = i.state + (i.restore ? '+' : '');
      if (shown !== key) { shown = key; put(act, actions(path, i.state, i.restore)); }
      put(line.box, table('Timeline', ['Time', 'Step', 'By', 'Reason'], events.map(e => [stamp(e.time), e.kind, e.actor, e.reason || '–']), 'Nothing happened yet.'));
      if (gotLogs) return;
      try {
        const e = await call(path + '/evidence');
        if (!mine()) return;
        gotLogs = true;
        put(ev.box, el('p', { class: 'note' }, `From ${whole(e.rows)} flow records of ${stamp(e.from)} to ${stamp(e.to)}, frozen ${stamp(e.frozen)}${e.truncated ? '; more matched than were kept' : ''}.`),
          e.logs.map((l, n) => el('details', { open: n === 0 }, el('summary', {}, LOGS[l.form] || l.form, el('span', { class: 'note' }, ' ' + l.name)), el('pre', { tabindex: '0', 'aria-label': l.name }, l.text))));
      } catch (err) {
        if (err.status !== 404) throw err;
        if (mine()) put(ev.box, el('p', { class: 'empty' }, err.message));
      }
    },
  };
}

// actions gives the form that the state allows.
function actions(path, state, restore) {
  const cut = ['approve', 'Cut the network', 'reason', 'Why the network is to be cut', 'operator'];
  const close = ['close', 'Close the incident', 'reason', 'Why nothing is to be done', 'abuse'];
  const back = ['release', 'Give the network back', 'statement', 'What the customer says was found and done', 'abuse'];
  const a = { open: [close], notified: [close], held: [cut, close], awaiting_approval: [cut, close], failed: restore ? [back, close] : [cut, back, close] };
  for (const s of ['suspending', 'suspended', 'verified', 'unverified']) a[s] = [back];
  return (a[state] || []).map(([verb, label, field, hint, role]) => {
    if (RANK[me.role] < RANK[role]) return el('p', { class: 'note' }, `${label}: needs a token of the role ${role}; yours is ${me.role}.`);
    const text = el('textarea', { id: verb + '-text', rows: '3', maxlength: '4000', required: true });
    const said = el('p', { role: 'status' });
    const button = el('button', {}, label);
    return el('form', { class: 'act', onsubmit: async ev => {
      ev.preventDefault();
      button.disabled = true;
      try { await call(path + '/' + verb, { [field]: text.value }); said.textContent = 'Done.'; text.value = ''; refresh(); } catch (err) { said.textContent = err.message; }
      button.disabled = false;
    } }, el('label', { for: verb + '-text' }, hint), text, el('div', {}, button, said));
  });
}

function hostPage(ip) {
  const head = el('div'), pick = el('select', { id: 'back', onchange: () => refresh() }, [['1h', 'last hour'], ['6h', 'last 6 hours'], ['24h', 'last day'], ['168h', 'last week']].map(([v, t]) => el('option', { value: v }, t)));
  const pps = section('Packets', el('span', {}, el('label', { for: 'back' }, 'show '), pick)), bps = section('Traffic'), inc = section('Open incidents'), fl = section('Last flows');
  main.replaceChildren(el('p', {}, el('a', { href: '#/' }, '← Overview')), head, pps.node, bps.node, inc.node, fl.node);
  return {
    title: 'Host ' + ip,
    async update(mine) {
      const path = '/hosts/' + encodeURIComponent(ip);
      const [h, f] = await Promise.all([call(path + '?from=-' + pick.value), call(path + '/flows?limit=50&from=-' + pick.value)]);
      if (!mine()) return;
      put(head, el('h1', { tabindex: '-1' }, 'Host ', el('span', { class: 'mono' }, h.ip)),
        facts([['Holder now', holder(h.holder)], ['Contact', h.holder?.contact], ['Hypervisor', h.holder?.hypervisor], ['Stored under', h.tenant !== h.ip ? h.tenant : '']]));
      put(pps.box, chart(h, 'est_out_packets', 'est_in_packets', 1, 'pkt/s'));
      put(bps.box, chart(h, 'est_out_bytes', 'est_in_bytes', 8, 'bit/s'));
      put(inc.box, incidentTable(h.incidents));
      put(fl.box, table('Last flows', ['Time', 'Dir', 'Proto', 'Host', 'Remote', 'Class', '>Packets', '>Bytes', '>Sampling'], f.flows.reverse().map(r => [
        stamp(r.time), r.dir, proto(r.ip_proto), el('span', { class: 'mono' }, join(r.host, r.host_port)), el('span', { class: 'mono' }, join(r.remote, r.remote_port)), r.class, whole(r.packets), whole(r.bytes), '1:' + whole(r.sampling_rate)]),
      'No flow records are stored for this time.'));
    },
  };
}
const join = (a, p) => p ? (a.includes(':') ? '[' + a + ']' : a) + ':' + p : a;

// chart draws two lines over time; steps without a row are zero.
function chart(h, outKey, inKey, factor, unit) {
  if (!h.series.length) return el('p', { class: 'empty' }, 'No traffic in this time.');
  const W = main.clientWidth < 600 ? 380 : 800, H = 200, L = 92, B = 24, T = 12, step = h.step_s * 1000;
  const from = Math.floor(Date.parse(h.from) / step) * step, n = Math.max(1, Math.ceil((Date.parse(h.to) - from) / step));
  const lines = [outKey, inKey].map(k => {
    const v = new Float64Array(n);
    for (const p of h.series) { const i = Math.floor((Date.parse(p.time) - from) / step); if (i >= 0 && i < n) v[i] += p[k] * factor / h.step_s; }
    return v;
  });
  const max = Math.max(1, ...lines.map(v => v.reduce((a, b) => Math.max(a, b), 0)));
  const x = i => L + (W - L - 6) * i / Math.max(1, n - 1), y = v => T + (H - B - T) * (1 - v / max);
  const svg = (tag, attrs, text) => { const e = document.createElementNS('http://www.w3.org/2000/svg', tag); for (const k in attrs) e.setAttribute(k, attrs[k]); if (text) e.textContent = text; return e; };
  const peak = lines.map(v => num(v.reduce((a, b) => Math.max(a, b), 0), unit));
  const root = svg('svg', { viewBox: `0 0 ${W} ${H}`, role: 'img', 'aria-label': `${unit}: peak out ${peak[0]}, peak in ${peak[1]}`, class: 'chart' });
  for (const f of [0, .5, 1]) root.append(svg('line', { x1: L, x2: W - 6, y1: y(max * f), y2: y(max * f), class: 'grid' }), svg('text', { x: L - 6, y: y(max * f) + 4, class: 'end' }, num(max * f, unit)));
  for (const f of [0, .5, 1]) root.append(svg('text', { x: L + (W - L - 6) * f, y: H - 6, class: ['', 'mid', 'end'][f * 2] }, new Date(from + f * (n - 1) * step).toISOString().slice(n * step > 864e5 ? 5 : 11, 16).replace('T', ' ')));
  lines.forEach((v, k) => root.append(svg('polyline', { points: Array.from(v, (p, i) => x(i).toFixed(1) + ',' + y(p).toFixed(1)).join(' '), class: k ? 'in' : 'out' })));
  return el('figure', {}, root, el('figcaption', {}, el('span', { class: 'key out' }, 'out, peak ' + peak[0]), el('span', { class: 'key in' }, 'in, peak ' + peak[1]), el('span', { class: 'note' }, 'one point is ' + span(h.step_s))));
}

// ---- session and routing ----
function say(text) { $('alert').textContent = text; $('alert').hidden = !text; }

function login(text) {
  me = view = null;
  sessionStorage.removeItem(KEY);
  $('find').hidden = $('out').hidden = true;
  $('who').textContent = '';
  document.title = 'flowcordon';
  const input = el('input', { id: 'token', type: 'password', autocomplete: 'off', required: true, spellcheck: 'false' });
  main.replaceChildren(el('form', { class: 'login', onsubmit: ev => { ev.preventDefault(); sessionStorage.setItem(KEY, input.value.trim()); start(); } },
    el('h1', {}, 'Token'), el('p', {}, 'The token stays in this browser tab until it is closed. Tokens stand in the configuration under api.tokens.'),
    text ? el('p', { role: 'alert', class: 'bad-text' }, text) : null, el('label', { for: 'token' }, 'API token'), input, el('button', {}, 'Show the dashboard')));
  input.focus();
}

async function start() {
  try { me = await call('/whoami'); } catch (err) { return err.status ? login(err.message) : (say(err.message), setTimeout(start, EVERY)); }
  say('');
  $('who').textContent = me.name + ' (' + me.role + ')';
  $('find').hidden = $('out').hidden = false;
  route();
}

function route() {
  if (!me) return;
  const [, page, arg] = location.hash.split('/');
  let name = '';
  try { name = decodeURIComponent(arg || ''); } catch { /* a broken link shows the overview */ }
  view = page === 'incidents' && name ? incidentPage(name) : page === 'hosts' && name ? hostPage(name) : overview();
  document.title = view.title + ' – flowcordon';
  window.scrollTo(0, 0);
  refresh().then(() => main.querySelector('h1')?.focus({ preventScroll: true }));
}

async function refresh() {
  clearTimeout(timer);
  const now = view, mine = (t => () => t === turn && now === view)(++turn);
  if (!now) return;
  if (!document.hidden) {
    try {
      await now.update(mine);
      if (mine()) { say(''); $('fresh').textContent = 'Updated ' + new Date().toISOString().slice(11, 19) + '.'; }
    } catch (err) {
      if (!mine()) return;
      if (err.status === 401) return login(err.message);
      if (err.status === 404 || err.status === 422) { // the address is wrong: asking again will not help
        say('');
        main.replaceChildren(el('p', {}, el('a', { href: '#/' }, '← Overview')), el('h1', { tabindex: '-1' }, 'There is nothing to show'), el('p', { class: 'bad-text', role: 'alert' }, err.message));
        return;
      }
      say(err.message);
    }
  }
  if (mine()) timer = setTimeout(refresh, EVERY);
}

addEventListener('hashchange', route);
document.addEventListener('visibilitychange', () => { if (!document.hidden) refresh(); });
$('out').addEventListener('click', () => login(''));
$('find').addEventListener('submit', ev => { ev.preventDefault(); if ($('ip').value.trim()) location.hash = '#/hosts/' + encodeURIComponent($('ip').value.trim()); });
sessionStorage.getItem(KEY) ? start() : login('');
