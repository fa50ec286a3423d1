import type { Exporter, Incident, TopRow } from '../api';
import { age, ago, num, seconds, stamp, who, whole } from '../format';
import { named, w } from '../i18n';
import { Badge, HostLink, IncidentLink, Table } from '../ui';

export const rules = (r: string[]) => r.map(x => named(w.rules, x)).join(', ') || '–';
export const measure = (i: Incident) => i.action && ['suspended', 'verified', 'unverified', 'suspending', 'releasing'].includes(i.state) ? named(w.measures, i.action.measure?.kind || 'cut') : '';

export function Incidents({ list, empty }: { list: Incident[]; empty: string }) {
  return <Table caption={w.incidents} rows={list} empty={empty} keyOf={i => i.id} columns={[
    { head: w.state, cell: i => <Badge of={i.state} words={w.states} /> },
    { head: w.address, cell: i => <HostLink ip={i.tenant} /> },
    { head: w.tenant, cell: i => who(i.holder) },
    { head: w.what, cell: i => <IncidentLink id={i.id}>{rules(i.rules)}</IncidentLink> },
    { head: w.why, cell: i => i.findings[0]?.reason ?? i.reason ?? '–' },
    { head: w.age, cell: i => <time dateTime={i.opened} title={stamp(i.opened)}>{age(i.opened)}</time> },
  ]} />;
}

export function Top({ list, windowS }: { list: TopRow[]; windowS: number }) {
  return <Table caption={w.topTalkers} rows={list} empty={w.noTraffic} keyOf={t => t.tenant} columns={[
    { head: w.address, cell: t => <HostLink ip={t.tenant} /> },
    { head: w.tenant, cell: t => who(t.holder) },
    { head: w.out, right: true, cell: t => num(t.est_out_bytes * 8 / windowS, w.bitsPerS) },
    { head: w.in, right: true, cell: t => num(t.est_in_bytes * 8 / windowS, w.bitsPerS) },
    { head: w.packetsOut, right: true, cell: t => num(t.est_out_packets / windowS, w.packetsPerS) },
    { head: w.syn, right: true, cell: t => whole(t.syn_out) },
    { head: '', cell: t => t.incidents.length ? <IncidentLink id={t.incidents[0]}>{w.incident}</IncidentLink> : '' },
  ]} />;
}

const sum = (m: Record<string, number>) => Object.values(m).reduce((a, b) => a + b, 0);

export function Exporters({ list, full }: { list: Exporter[]; full?: boolean }) {
  const more = full ? [
    { head: w.clock, right: true, cell: (e: Exporter) => seconds(e.clock_offset_s) },
    { head: w.delay, right: true, cell: (e: Exporter) => seconds(e.export_delay_s?.p99) },
    { head: w.duration, right: true, cell: (e: Exporter) => seconds(e.flow_duration_s?.p99) },
    { head: w.templates, right: true, cell: (e: Exporter) => whole(e.templates_known) },
  ] : [];
  return <Table caption={w.exporters} rows={list} empty={w.noExporters} keyOf={e => e.exporter} columns={[
    { head: w.exporters, cell: e => <span class="mono">{e.exporter}</span> },
    { head: w.protocols, cell: e => e.protocols.join(', ') },
    { head: w.lastSeen, cell: e => ago(e.last_seen) },
    { head: w.records, right: true, cell: e => whole(e.records) },
    { head: w.lost, right: true, cell: e => whole(e.lost) },
    { head: w.dropped, right: true, cell: e => <span title={Object.entries(e.dropped).map(([k, v]) => k + ': ' + v).join('\n')}>{whole(sum(e.dropped))}</span> },
    { head: w.sampling, cell: e => [...new Set(e.samplers.map(s => s.rate ? `1:${whole(s.rate)} (${s.source})` : w.unknown))].join(', ') || '–' },
    ...more,
    { head: w.problems, cell: e => e.problems.length ? <ul class="bad-text">{e.problems.map(p => <li key={p}>{p}</li>)}</ul> : <span class="ok-text">{w.none}</span> },
  ]} />;
}
