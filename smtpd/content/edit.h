/*
 * edit - changes of a message by a milter, checked and carried out. A milter is chosen by the administrator, who lets it write to whom it wants; what it
 * sends must still be addresses, fields and parameters.
 */
#ifndef SMTPD_CONTENT_EDIT_H
#define SMTPD_CONTENT_EDIT_H

#include "content.h"

enum edit_result { EDIT_DONE, EDIT_IGNORED /* logged */, EDIT_FORBIDDEN /* it did not ask for the right to */, EDIT_FAILED /* memory, disk, bounds */, EDIT_NONE /* no change at all */ };
enum edit_result edit_carry_out(struct session *s, const struct milter *m, const struct milter_reply *r);

#endif
