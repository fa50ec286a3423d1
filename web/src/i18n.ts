// Words in English and Russian. A key that a language lacks would be a type error.
import { en } from './words.en';
import { ru } from './words.ru';

export type Words = typeof en;
export type Lang = 'en' | 'ru';
const all: Record<Lang, Words> = { en, ru };
const KEY = 'flowcordon-lang';

function first(): Lang {
  const kept = localStorage.getItem(KEY);
  if (kept === 'en' || kept === 'ru') return kept;
  return navigator.language.toLowerCase().startsWith('ru') ? 'ru' : 'en';
}

export let lang: Lang = first();
export let w: Words = all[lang];
document.documentElement.lang = lang;

export function setLang(l: Lang) {
  lang = l;
  w = all[l];
  localStorage.setItem(KEY, l);
  document.documentElement.lang = l;
}

// named gives the word for a name of the API, or the name itself.
export const named = (m: Record<string, string>, name: string): string => m[name] ?? name;

// fill puts values into {0}, {1}, …
export const fill = (s: string, ...v: (string | number)[]): string => s.replace(/\{(\d)\}/g, (_, i) => String(v[+i]));

// problemText is what the API says of a mistake, in the user's language.
