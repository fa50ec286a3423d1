// What the service says in sentences, in the user's language. Beside each sentence
// the API has its code and the values in it: of a state, of an error; a finding is
// its rule and its numbers. What has no code are the words of others and stays.
import type { Exporter, Finding, Problem, Proposal, Told } from './api';
import { whole } from './format';
import { lang } from './i18n';
import advice from './advice.ru.json';
import exporters from './exporters.ru.json';
import findings from './findings.ru.json';
import problems from './problems.ru.json';
import reasons from './reasons.json';

const put = (form: string, values: string[] = []) => form.replace(/\{(\d)\}/g, (_, i) => values[+i] ?? '');

// toldText is why something is as it is; text is the API's own sentence.
export function toldText(why: Told | undefined, text = ''): string {
  const form = why && (reasons as Record<string, Record<string, string>>)[why.code];
  if (!form) return text;
  return put(form[lang]!, why.values) + (why.detail ? ': ' + why.detail : '');
}

// codeText is a code of a timeline by itself.
export const codeText = (code = ''): string => (reasons as Record<string, Record<string, string>>)[code]?.[lang]?.replace(/\{\d\}/g, '…') ?? code;

export function problemText(e: Problem): string {
  const form = lang === 'ru' && e.code ? (problems as Record<string, string>)[e.code] : undefined;
  return form ? put(form, e.values) : e.message.replace(/; GET \/api\/v1\/\S+ lists them$/, ''); // programs are told that; people have the pages
}

const inRussian = (forms: Record<string, string>, why: Told | undefined, text: string): string => {
  const form = lang === 'ru' && why ? forms[why.code] : undefined;
  return form ? put(form, why!.values) : text;
};

// exporterProblems are what is wrong with an exporter, each with what to do.
export const exporterProblems = (e: Exporter): string[] => e.problems.map((text, i) => inRussian(exporters, e.problems_why?.[i], text));

// adviceText is what to do about a threshold.
export const adviceText = (p: Proposal): string => inRussian(advice, p.why, p.advice);

const UNSAMPLED = 1.5;
const PROTOCOLS: Record<number, string> = { 1: 'ICMP', 6: 'TCP', 17: 'UDP', 47: 'GRE', 50: 'ESP', 58: 'ICMPv6' };

// findingText: the English sentence knows a little more than the numbers.
export function findingText(f: Finding): string {
  const form = lang === 'ru' ? (findings as Record<string, string>)[f.rule] : undefined;
  if (!form) return f.reason;
  const sampled = f.sampling_rate >= UNSAMPLED;
  const about = (n: number) => (sampled ? 'около ' : '') + whole(Math.round(n));
  const values: Record<string, string> = {
    distinct: whole(f.distinct), samples: whole(f.samples), port: String(f.port ?? 0), remote: f.remote ?? '', to: f.remote || `${whole(f.distinct)} адресов`,
    rate: about(f.est_rate), perMinute: about(f.est_rate * 60), length: `${Math.round((Date.parse(f.to) - Date.parse(f.from)) / 1000)} с`, proto: PROTOCOLS[f.ip_proto] ?? `IP ${f.ip_proto}`,
  };
  return form.replace(/\{(\w+)\}/g, (_, k) => values[k] ?? '') + (sampled ? ` (видно по выборке 1 из ${whole(Math.round(f.sampling_rate))} пакетов)` : '');
}
