import type { Exporter, Incident, TopRow } from '../api';
import { age, ago, decimal, num, seconds, stamp, who, whole } from '../format';
import { named, w } from '../i18n';
import { exporterProblems, findingText, toldText } from '../told';
import { Badge, HostLink, IncidentLink, Table } from '../ui';

export const rules = (r: string[]) => r.map(x => named(w.rules, x)).join(', ') || '–';
export const measure = (i: Incident) => i.action && ['suspended', 'verified', 'unverified', 'suspending', 'releasing'].includes(i.state) ? named(w.measures, i.action.measure?.kind || 'cut') : '';

// FRESH is for how long a new incident stands out.
const FRESH = 120_000;

export function Incidents({ list, empty }: { list: Incident[]; empty: string }) {
  return <Table caption={w.incidents} rows={list} empty={empty} keyOf={i => i.id} mark={i => Date.now() - Date.parse(i.opened) < FRESH} columns={[
    { head: w.state, cell: i => <Badge of={i.state} words={w.states} /> },
    { head: w.address, cell: i => <HostLink ip={i.tenant} /> },
    { head: w.tenant, cell: i => <Who h={i.holder} /> },
    { head: w.incidentOf, cell: i => <IncidentLink id={i.id}>{rules(i.rules)}</IncidentLink> },
    { head: w.why, cell: i => <span class="clamp" title={why(i)}>{why(i) || '–'}</span> },
    { head: w.age, right: true, cell: i => <time dateTime={i.opened} title={stamp(i.opened)}>{age(i.opened)}</time> },
  ]} />;
}

const why = (i: Incident) => i.findings[0] ? findingText(i.findings[0]) : toldText(i.why, i.reason);

const Who = ({ h }: { h?: Incident['holder'] }) => h?.tenant || h?.vds ? <span class="clamp">{who(h)}</span> : <span class="note">{who(h)}</span>;

// SYN samples above this are worth a look, whoever leads the list.
const MANY_SYN = 1000;

export function Top({ list, windowS, by }: { list: TopRow[]; windowS: number; by: string }) {
  const value = (t: TopRow) => ({ out_bytes: t.est_out_bytes, in_bytes: t.est_in_bytes, out_packets: t.est_out_packets, in_packets: t.est_in_packets, syn: t.syn_out } as Record<string, number>)[by] ?? 0;
  const most = Math.max(1, ...list.map(value));
  return <Table caption={w.topTalkers} rows={list} empty={w.noTraffic} keyOf={t => t.tenant} columns={[
    { head: w.address, cell: t => <HostLink ip={t.tenant} /> },
    { head: w.tenant, cell: t => <Who h={t.holder} /> },
    { head: '', cell: t => <svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true"><rect width={100 * value(t) / most} height="8" /></svg> },
    { head: w.out, right: true, cell: t => num(t.est_out_bytes * 8 / windowS, w.bitsPerS) },
    { head: w.in, right: true, cell: t => num(t.est_in_bytes * 8 / windowS, w.bitsPerS) },
    { head: w.packetsOut, right: true, cell: t => num(t.est_out_packets / windowS, w.packetsPerS) },
    { head: w.syn, right: true, cell: t => t.syn_out > MANY_SYN ? <strong class="warn-text">{whole(t.syn_out)}</strong> : whole(t.syn_out) },
    { head: w.incident, cell: t => t.incidents.length ? <IncidentLink id={t.incidents[0]}>{w.openNow}</IncidentLink> : '' },
  ]} />;
}

const sum = (m: Record<string, number>) => Object.values(m).reduce((a, b) => a + b, 0);
export const SILENT = 60_000; // ms after which an exporter counts as silent
const silent = (e: Exporter) => !(Date.now() - Date.parse(e.last_seen) < SILENT);
export const lossOf = (lost: number, records: number) => lost && records + lost ? decimal(100 * lost / (records + lost), 2) + '\u00a0%' : '0\u00a0%';

export function Exporters({ list, full }: { list: Exporter[]; full?: boolean }) {
  const more = full ? [
    { head: w.clock, right: true, cell: (e: Exporter) => seconds(e.clock_offset_s) },
    { head: w.delay, right: true, cell: (e: Exporter) => seconds(e.export_delay_s?.p99) },
    { head: w.duration, right: true, cell: (e: Exporter) => seconds(e.flow_duration_s?.p99) },
    { head: w.templates, right: true, cell: (e: Exporter) => whole(e.templates_known) },
  ] : [];
  return <Table caption={w.exporters} rows={list} empty={w.noExporters} keyOf={e => e.exporter} columns={[
    { head: w.exporter, cell: e => <span class="mono">{e.exporter}</span> },
    { head: w.state, cell: e => silent(e) ? <span class="badge bad">{w.silent}</span> : e.problems.length ? <span class="badge warn">{w.problem}</span> : <span class="badge ok">{w.ok}</span> },
    { head: w.protocols, cell: e => e.protocols.join(', ') },
    { head: w.lastSeen, cell: e => <span class={silent(e) ? 'bad-text' : ''} title={stamp(e.last_seen)}>{ago(e.last_seen)}</span> },
    { head: w.records, right: true, cell: e => whole(e.records) },
    { head: w.lost, right: true, cell: e => <span class={e.lost ? 'bad-text' : ''} title={whole(e.lost)}>{lossOf(e.lost, e.records)}</span> },
    { head: w.dropped, right: true, cell: e => <span title={Object.entries(e.dropped).map(([k, v]) => k + ': ' + v).join('\n')}>{whole(sum(e.dropped))}</span> },
    { head: w.sampling, cell: e => [...new Set(e.samplers.map(s => s.rate ? `1:${whole(s.rate)} (${s.source})` : w.unknown))].join(', ') || '–' },
    ...more,
    ...full ? [] : [{ head: w.problems, cell: (e: Exporter) => e.problems.length ? <ul class="plain bad-text">{exporterProblems(e).map(p => <li key={p}>{p}</li>)}</ul> : '–' }],
  ]} />;
}
