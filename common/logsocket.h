/*
 * logsocket - lines to the system's log reader by a socket of our own (RFC 3164, 4.1, as syslog(3) writes it): one datagram a line, or a stream with a NUL behind each
 * line where the reader listens for streams.
 *
 * For programs that know descriptors by their numbers, close all but a few, or may open none. syslog(3) takes the lowest free number for its socket, opens
 * another one when the reader was started again, and waits for a reader that has stopped. Programs without sockets keep to it (etc/boundaries.txt).
 */
#ifndef COMMON_LOGSOCKET_H
#define COMMON_LOGSOCKET_H

#include "log.h"

/* Log this way from the next log_init on, to path_syslog. */
void logsocket_use(void);

/* `path` is static. A reader that is not there yet is looked for again at every line. Does nothing where it is open. */
void logsocket_open(const char *path);
void logsocket_close(void);

/* Its number, far above those of which programs think; -1: none. Whoever closes descriptors spares it: children share it. */
int logsocket_descriptor(void);

/* Find the reader again where it has gone. For a process whose children share the socket, but may connect nothing themselves: those that had a stream to the
 * reader that has gone stay without, and the next ones get the new one. */
void logsocket_reach(void);

/* False: nobody took the line. Blocks for LOGSOCKET_WAIT_MS at most, when the reader has stopped reading: once, and then not before it reads again.
 * `line`: as log_way has it. */
#define LOGSOCKET_WAIT_MS 200
bool logsocket_send(const char *line, size_t n);

#endif
