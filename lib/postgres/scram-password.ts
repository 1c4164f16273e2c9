/**
 * A password as SCRAM hashes it (SASLprep, RFC 4013), which the driver leaves out: with a no-break space, a half-width
 * letter or a lone Korean consonant (ㅋ) in it, the server would say that the password is wrong.
 *
 * As the server does, a password that the rules do not allow is taken as it is.
 * https://github.com/postgres/postgres/blob/master/src/common/saslprep.c
 */
export function prepareScramPassword(password: string): string {
  if (!/[^\0-\x7f]/.test(password)) return password;
  const prepared = password.replace(SPACES, " ").replace(MAPPED_TO_NOTHING, "").normalize("NFKC");
  return prepared === "" || PROHIBITED.test(prepared) || hasUnassigned(prepared) ? password : prepared;
}

const SPACES = /[\u00a0\u1680\u2000-\u200b\u202f\u205f\u3000]/g;
const MAPPED_TO_NOTHING = /\u00ad|\u034f|\u1806|[\u180b-\u180d]|\u200c|\u200d|\u2060|[\ufe00-\ufe0f]|\ufeff/g;
/** Control characters, private use, surrogates and those that change how text is displayed. */
const PROHIBITED =
  /[\p{Cc}\p{Co}\p{Cs}\u06dd\u070f\u180e\u200e\u200f\u2028-\u202e\u2061-\u2063\u206a-\u206f\u2ff0-\u2ffb\ufff9-\uffff]/u;

/** SASLprep knows Unicode 3.2 only: beyond the first plane, that is mathematical letters and Chinese characters. */
function hasUnassigned(text: string): boolean {
  return [...text].some((character) => {
    const code = character.codePointAt(0) ?? 0;
    if (code < 0x1_0000) return false;
    const isKnown = [
      [0x1_d400, 0x1_d7ff],
      [0x2_0000, 0x2_a6d6],
      [0x2_f800, 0x2_fa1d],
    ].some(([first = 0, last = 0]) => code >= first && code <= last);
    return !isKnown;
  });
}
