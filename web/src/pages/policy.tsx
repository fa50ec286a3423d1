import { useState } from 'preact/hooks';
import { get } from '../api';
import type { Me, Policy } from '../api';
import { num, whole } from '../format';
import { fill, named, w } from '../i18n';
import { useLive } from '../live';
import { Badge, Empty, Facts, Failed, may, Section, Table } from '../ui';

// PolicyView says what an address is judged by, and where each value comes from.
export function PolicyView({ ip, me }: { ip: string; me: Me }) {
  const got = useLive(s => get<Policy>(`/hosts/${encodeURIComponent(ip)}/policy`, s), [ip], { every: 0 });
  const [all, setAll] = useState(false);
  const p = got.data;
  if (!p) return <Section title={w.tabs.policy}><Failed error={got.error} /><Empty>{got.error ? '' : w.loading}</Empty></Section>;
  return <><Section title={w.tabs.policy} extra={<>
    <label><input type="checkbox" checked={all} onChange={e => setAll(e.currentTarget.checked)} /> {w.allValues}</label>
    {may(me, 'operator') && <a href={'#/exemptions?tenant=' + encodeURIComponent(ip)}>{w.exemptThis}</a>}</>}>
    <p class="note">{w.policyText}</p>
    <Facts of={[[w.holder, p.holder], [w.tags, p.tags?.join(', ')], [w.overrides, p.overrides?.join(' · ') || w.none]]} />
    <Table caption={w.tabs.policy} rows={p.rules ?? []} empty={w.none} keyOf={r => r.rule} columns={[
      { head: w.rule, cell: r => <strong>{named(w.rules, r.rule)}</strong> },
      { head: w.mode, cell: r => <><Badge of={'mode_' + r.mode} words={w.modes} /> <span class="note">{origin(r.mode_from)}</span></> },
      { head: w.thresholds, cell: r => <Values of={r.values} all={all} /> },
      { head: w.limitsOf, cell: r => [...r.held ?? [], ...r.needs ?? []].map(t => <p class="note tight" key={t}>{t}</p>) },
    ]} />
  </Section>
  {p.exporters?.map(e => <Section key={e.exporter + e.rate} title={`${w.floors}: ${e.exporter}, 1:${whole(e.rate)}`}>
    <p class="note">{w.floorsText}</p>
    <Table caption={w.floors} rows={e.floors ?? []} empty={w.none} keyOf={(_, i) => i} columns={[
      { head: w.rule, cell: f => named(w.rules, f.rule) }, { head: w.what, cell: f => f.what || '–' },
      { head: w.within, cell: f => (f.notify ?? []).map(x => x ? num(x, '') : '–').join(' / ') + ' ' + f.unit },
      { head: w.tier, cell: f => <Badge of={'tier_' + f.tier} words={w.tiers} /> },
    ]} />
  </Section>)}</>;
}

const origin = (from: string) => named(w.origins, from);

function Values({ of, all }: { of: Policy['rules'][number]['values']; all: boolean }) {
  const shown = (of ?? []).filter(v => all || v.from !== 'default');
  if (!shown.length) return <span class="note">{fill(w.allDefault, (of ?? []).length)}</span>;
  return <ul class="values">{shown.map(v => <li key={v.key}><span class="mono">{v.key} = {v.value}</span> {v.from !== 'default' && <span class="note">{origin(v.from)}</span>}</li>)}</ul>;
}
