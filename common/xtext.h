/*
 * xtext - octets as SMTP parameters carry them (RFC 3461 4): "+" and two hexadecimal digits for what may not stand there itself. Never blocks, never fails.
 */
#ifndef COMMON_XTEXT_H
#define COMMON_XTEXT_H

#include "bytes.h"

/* The first character of `text`, which is not empty, into *c_r: how many octets it takes, or 0 when it is malformed. Digits above 9 are capitals. */
size_t xtext_char(struct bytes text, unsigned char *c_r);

#endif
