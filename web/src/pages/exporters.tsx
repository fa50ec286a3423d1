import { get } from '../api';
import type { Exporter } from '../api';
import { w } from '../i18n';
import { useLive } from '../live';
import { Empty, Failed, Section } from '../ui';
import { Exporters } from './lists';

export function ExporterList() {
  const exp = useLive(s => get<{ exporters: Exporter[] }>('/exporters', s), []);
  return <>
    <h1 tabIndex={-1}>{w.exporters}</h1>
    <Section title={exp.data ? String(exp.data.exporters.length) : w.loading}>
      <Failed error={exp.error} />
      {exp.data ? <Exporters list={exp.data.exporters} full /> : <Empty>{w.loading}</Empty>}
    </Section>
  </>;
}
