/*
 * clean - text that others wrote, made safe to stand in a header field or a line of a report. Room: queue (bounce).
 */
#ifndef QUEUE_CLEAN_H
#define QUEUE_CLEAN_H

#include "common/bytes.h"

/* Append text: a run of control characters and blanks becomes one blank, none at the ends; octets that are not ASCII become '?', or stay when
 * utf8 is on and they are valid UTF-8. */
bool clean_text(struct str *out, struct bytes text, bool utf8);

/* Append text, which is clean, in lines of about 76 columns with CRLF and `indent` between them, the first one beginning at
 * `column`. A word is only cut when a line would pass 900 octets (RFC 5322 2.1.1: 998). */
bool clean_fold(struct str *out, struct bytes text, size_t column, const char *indent);

/* An address as RFC 6533 3 wants it in 7 bits (utf-8-addr-xtext): "\x{HEX}" for what is not plain. False: not valid UTF-8. */
bool clean_utf8_xtext(struct str *out, struct bytes address);

/* Decode xtext (RFC 3461 4): false when it is malformed, or holds what may not stand in a field. */
bool clean_from_xtext(struct str *out, struct bytes xtext, bool utf8);

/* The length of the valid UTF-8 character at the start of text, and its code point; 0 when there is none. */
size_t clean_utf8_char(struct bytes text, uint32_t *point_r);

#endif
