import { get } from '../api';
import type { Exporter, Source } from '../api';
import { stamp, whole } from '../format';
import { fill, w } from '../i18n';
import { aboutExporters, useLive } from '../live';
import { exporterProblems } from '../told';
import { Empty, Failed, Section, Table } from '../ui';
import { Exporters } from './lists';

export function ExporterList() {
  const exp = useLive(s => get<{ exporters: Exporter[] }>('/exporters', s), [], { about: aboutExporters, every: 5000 });
  const src = useLive(s => get<{ sources: Source[] }>('/inventory/sources', s), [], { every: 30_000 });
  return <>
    <h1 tabIndex={-1}>{w.exporters}</h1>
    <Section title={exp.data ? fill(w.exportersCount, exp.data.exporters.length) : w.exporters}>
      <Failed error={exp.error} />
      {exp.data ? <Exporters list={exp.data.exporters} full /> : <Empty>{exp.error ? '' : w.loading}</Empty>}
      <p class="note">{w.exportersText}</p>
    </Section>
    {exp.data?.exporters.some(e => e.problems.length) && <Section title={w.problems}>
      <ul class="findings">{exp.data.exporters.flatMap(e => exporterProblems(e).map(p => <li key={e.exporter + p}><span class="mono">{e.exporter}</span>: {p}</li>))}</ul>
    </Section>}
    <Section title={w.sources}>
      <Failed error={src.error} />
      {src.data ? <Table<Source> caption={w.sources} rows={src.data.sources} empty={w.noSources} keyOf={s => s.name} mark={s => s.stale} columns={[
        { head: w.sourceHead, cell: s => s.name }, { head: w.entries, right: true, cell: s => whole(s.entries) }, { head: w.readAt, cell: s => s.seen ? <span class="when">{stamp(s.seen)}</span> : '–' },
        { head: w.state, cell: s => <><span class={s.stale ? 'bad-text' : undefined}>{!s.seen ? w.neverRead : s.stale ? w.sourceStale : w.fresh2}</span>{s.error && <div class="note">{s.error}</div>}</> },
      ]} /> : <Empty>{src.error ? '' : w.loading}</Empty>}
    </Section>
  </>;
}
