/*
 * dialogue - one callout, in a process of its own: the mail exchangers of the sender's domain, and what one of them says of him.
 *
 * Before each connection it asks its parent (callout_may), at the end it tells what it found (callout_end); both are records on `fd`.
 */
#ifndef REMOTE_CALLOUT_DIALOGUE_H
#define REMOTE_CALLOUT_DIALOGUE_H

#include "common/mailaddr.h"
#include "common/settings.h"
#include "wire.h"

/* `sender` is an ADDR_MAILBOX. Blocks until it is done, until callouttimeout from now at the latest; QUIT takes some seconds more. Returns the exit code. */
int dialogue_run(int fd, const struct settings *settings, const struct mailaddr *sender);

/* A view as printable ASCII, cut to fit; what else is in it becomes "?". */
void callout_clean(struct bytes from, char *to, size_t size);

/* Text of the server's, or of ours, into *said_r: "mx.example[192.0.2.1]", and what was said. */
struct outcome;
enum callout_scope dialogue_judge(const struct outcome *o, struct callout_said *said_r);

#endif
