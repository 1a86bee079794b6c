/*
 * test_passing - descriptors that go along with octets: what was asked for comes, and nothing else stays open.
 */
#include "unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/passing.h"

static int pair[2];

static int setup(void **state)
{
	(void)state;
	return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
}

static int teardown(void **state)
{
	(void)state;
	close(pair[0]);
	close(pair[1]);
	return 0;
}

static size_t open_descriptors(void)
{
	size_t n = 0;
	DIR *dir = opendir("/proc/self/fd");
	assert_non_null(dir);
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n;
}

static bool is_null(int fd)
{
	struct stat st, null;
	return fstat(fd, &st) == 0 && stat("/dev/null", &null) == 0 && st.st_ino == null.st_ino && st.st_dev == null.st_dev;
}

static void send_some(const int *descriptors, size_t count)
{
	assert_true(passing_send(pair[0], LIT("hello"), descriptors, count, MSG_DONTWAIT));
}

static void test_they_come(void **state)
{
	char octets[10];
	(void)state;
	for (size_t count = 1; count <= PASSING_MAX; count++) {
		int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), sent[PASSING_MAX] = { fd, fd }, got[PASSING_MAX];
		send_some(sent, count);
		assert_int_equal(passing_receive(pair[1], octets, sizeof octets, MSG_DONTWAIT, got, count), 5);
		assert_memory_equal(octets, "hello", 5);
		for (size_t i = 0; i < count; i++) {
			assert_true(got[i] != fd && is_null(got[i]));
			assert_true(fcntl(got[i], F_GETFD) & FD_CLOEXEC);
			close(got[i]);
		}
		close(fd);
	}
}

/* None, too few or too many: the octets come, and no descriptor stays. */
static void test_another_number(void **state)
{
	static const struct { size_t sent, wanted; } rows[] = { { 0, 1 }, { 0, 2 }, { 1, 2 }, { 2, 1 } };
	char octets[10];
	(void)state;
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), sent[PASSING_MAX] = { fd, fd };
	size_t before = open_descriptors();
	for (size_t i = 0; i < COUNT(rows); i++) {
		int got[PASSING_MAX] = { 0, 0 };
		if (rows[i].sent > 0)
			send_some(sent, rows[i].sent);
		else
			assert_int_equal(write(pair[0], "hello", 5), 5);
		assert_int_equal(passing_receive(pair[1], octets, sizeof octets, MSG_DONTWAIT, got, rows[i].wanted), 5);
		for (size_t k = 0; k < rows[i].wanted; k++)
			assert_int_equal(got[k], -1);
		assert_int_equal(open_descriptors(), before);
	}
	close(fd);
}

/* More than there is room for, sent by hand. */
static void test_too_many(void **state)
{
	union { struct cmsghdr head; char room[CMSG_SPACE(5 * sizeof(int))]; } control = { .room = "" };
	char octets[10];
	struct iovec iov = { (void *)(uintptr_t)"hello", 5 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room };
	struct cmsghdr *head = CMSG_FIRSTHDR(&m);
	int sent[5] = { 0, 0, 0, 0, 0 }, got[PASSING_MAX];
	(void)state;
	*head = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof sent) };
	memcpy(CMSG_DATA(head), sent, sizeof sent);
	size_t before = open_descriptors();
	assert_int_equal(sendmsg(pair[0], &m, MSG_NOSIGNAL), 5);
	assert_int_equal(passing_receive(pair[1], octets, sizeof octets, MSG_DONTWAIT, got, PASSING_MAX), 5);
	assert_true(got[0] == -1 && got[1] == -1);
	assert_int_equal(open_descriptors(), before);
}

static void test_ends(void **state)
{
	char octet;
	int fd = 0, got, many[3] = { 0, 0, 0 };
	(void)state;
	assert_int_equal(passing_receive(pair[1], &octet, 1, MSG_DONTWAIT, &got, 1), -1);
	assert_true(errno == EAGAIN && got == -1);
	assert_false(passing_send(pair[0], LIT("x"), many, 3, 0));
	assert_false(passing_send(pair[0], LIT("x"), many, 0, 0));
	assert_int_equal(shutdown(pair[1], SHUT_RDWR), 0);
	assert_int_equal(passing_receive(pair[1], &octet, 1, MSG_DONTWAIT, &got, 1), 0);
	assert_int_equal(got, -1);
	assert_false(passing_send(pair[0], LIT("x"), &fd, 1, 0));
	assert_int_equal(errno, EPIPE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_they_come, setup, teardown), cmocka_unit_test_setup_teardown(test_another_number, setup, teardown),
		cmocka_unit_test_setup_teardown(test_too_many, setup, teardown), cmocka_unit_test_setup_teardown(test_ends, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
