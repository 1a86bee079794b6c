/*
 * relay - carry octets between a TLS connection and smtpd until both have ended.
 *
 *   client's close_notify   what came before it goes to smtpd, then smtpd reads its end; smtpd's answers still go out
 *   cut off without it      the same, and a log line if smtpd had not ended: it is no sign of an end that can be trusted
 *   smtpd's end             what it wrote goes out, if the client takes it soon, then close_notify and the end of the stream; the client has a moment to go
 *   a slow reader           at most one buffer waits for it each way; nothing is read for it until that is gone
 */
#ifndef SMTPD_TLSD_RELAY_H
#define SMTPD_TLSD_RELAY_H

#include "watch.h"

#include <openssl/ssl.h>

/* Blocks until it is over. `client` is the nonblocking descriptor under `ssl`, `plain` the stream to smtpd; `text` names the client in log lines.
 * Nothing is waited for in `watch`, or the client in slot 0. True: both ended, in time and without an error of TLS's (a client that hangs up without close_notify
 * has ended: many do). Of the octets none is left here afterwards. One at a time in a process. */
bool relay_run(SSL *ssl, int client, int plain, const char *text, struct watch *watch);

#endif
