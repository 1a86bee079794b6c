/*
 * fuzz - what fuzz targets of more than one parser share: the claim, a peer that says any octets, a log that says nothing (FUZZ_QUIET of tests.mk).
 */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline void require(bool claim)
{
	if (!claim)
		abort();
}

static inline bool is_printable(struct bytes b)
{
	for (size_t i = 0; i < b.len; i++)
		if (b.at[i] < 32 || b.at[i] > 126)
			return false;
	return true;
}

/* A connection of which the other end has said this and says no more; what it hears, nobody reads. Two descriptors, the caller's to close. */
struct mouth { int fd, other; };

static inline struct mouth mouth_of(struct bytes says, int flags)
{
	int fds[2];
	require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0, fds) == 0);
	require(says.len == 0 || send(fds[1], says.at, says.len, MSG_DONTWAIT) == (ssize_t)says.len);
	require(shutdown(fds[1], SHUT_WR) == 0);
	return (struct mouth){ fds[0], fds[1] };
}

void __wrap_log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void __wrap_log_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
void __wrap_log_msg(msgid_t id, const char *format, ...) __attribute__((format(printf, 2, 3)));
void __wrap_log_info(const char *format, ...) { (void)format; }
void __wrap_log_warn(const char *format, ...) { (void)format; }
void __wrap_log_msg(msgid_t id, const char *format, ...) { (void)id; (void)format; }

#endif
