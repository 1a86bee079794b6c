/*
 * fieldname - whether a line begins a header field, and where the field's name ends (RFC 5322 2.2; blanks before the colon as in 4.5.8). Never blocks, never fails.
 */
#ifndef COMMON_FIELDNAME_H
#define COMMON_FIELDNAME_H

#include "bytes.h"

/* Octets of the name with which `line` (or its beginning, with or without its end) begins a field: the line's first colon is the field's. 0: it begins none. */
size_t fieldname(struct bytes line);

#endif
