/* client_parts - what client.c, transaction.c and probe.c share; for nobody else. */
#ifndef REMOTE_CLIENT_PARTS_H
#define REMOTE_CLIENT_PARTS_H

#include "client.h"

/* What is waited for: each has its time (RFC 5321 4.5.3.2, or the setting timeoutremote), its words and its stage. */
enum step { STEP_GREETING, STEP_HELO, STEP_RSET, STEP_MAIL, STEP_RCPT, STEP_DATA, STEP_BLOCK, STEP_FINAL, STEP_QUIT, STEP_COUNT };

deadline_t client_wait(const struct client *c, enum step step);

/* The outcome of a wait that brought no reply (result is not CONN_OK); its text may stand in c->text: valid until the next call. */
struct outcome client_failure(struct client *c, enum step step, enum conn_result result);

#endif
