import { get } from '../api';
import type { Exporter } from '../api';
import { fill, w } from '../i18n';
import { aboutExporters, useLive } from '../live';
import { Empty, Failed, Section } from '../ui';
import { Exporters } from './lists';

export function ExporterList() {
  const exp = useLive(s => get<{ exporters: Exporter[] }>('/exporters', s), [], { about: aboutExporters, every: 5000 });
  return <>
    <h1 tabIndex={-1}>{w.exporters}</h1>
    <Section title={exp.data ? fill(w.exportersCount, exp.data.exporters.length) : w.exporters}>
      <Failed error={exp.error} />
      {exp.data ? <Exporters list={exp.data.exporters} full /> : <Empty>{exp.error ? '' : w.loading}</Empty>}
      <p class="note">{w.exportersText}</p>
    </Section>
    {exp.data?.exporters.some(e => e.problems.length) && <Section title={w.problems}>
      <ul class="findings">{exp.data.exporters.flatMap(e => e.problems.map(p => <li key={e.exporter + p}><span class="mono">{e.exporter}</span>: {p}</li>))}</ul>
    </Section>}
  </>;
}
