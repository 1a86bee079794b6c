/*
 * fault - run a command and do something to one system call of one program in it: x86-64 Linux, root.
 *
 *   fault -x PROGRAM -o TRACE [-s NR -k KIND -n K -a kill|short|ERRNO] COMMAND [ARGUMENT...]
 *
 * PROGRAM is a path: calls of any process whose executable it is are counted, whoever started it, set-uid or not (strace counts for each
 * thread and cannot choose a program). KIND says what a call's first argument is: `file`, `pipe`, `fifo` (a pipe that is not
 * waited for), `own` (a pipe of which the process has the other end, too) or `socket` for calls that read, write or sync a descriptor, `-` for
 * others. At the K-th occurrence of system call NR with this KIND: `kill` is SIGKILL before it happens; `short` makes a write take only half; a
 * number is the errno it fails with, unexecuted. Then everything is let go and runs on untraced.
 * TRACE gets "acted MILLISECONDS" (CLOCK_MONOTONIC) at that moment, or "seen COUNT" when all has ended and it never came to that; without -s,
 * "NR KIND COUNT" for each system call.
 * SIGTERM and SIGHUP go on to COMMAND; its exit code is ours (128 + signal when it was killed).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef __x86_64__
#error "fault changes registers of x86-64 only"
#endif

#define TASKS_MAX 512
#define CALLS_MAX 600
#define OPTIONS (PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL)

enum kind { KIND_NONE, KIND_FILE, KIND_PIPE, KIND_FIFO, KIND_OWN, KIND_SOCKET, KINDS };
static const char *const kind_names[KINDS] = { "-", "file", "pipe", "fifo", "own", "socket" };

enum act { ACT_NONE, ACT_KILL, ACT_SHORT, ACT_ERROR };

struct task { pid_t pid; bool target, faked; };

static struct {
	const char *program, *trace;
	long call, when;
	enum kind kind;
	enum act act;
	int error;
	unsigned long counts[CALLS_MAX][KINDS], seen;
	struct task tasks[TASKS_MAX];
	size_t task_count;
	volatile pid_t root;
	int status;
	bool root_ended, done;
} f;

static _Noreturn void fail(const char *format, ...) {
	int error = errno;
	va_list args;
	va_start(args, format);
	fprintf(stderr, "fault: ");
	vfprintf(stderr, format, args);
	fprintf(stderr, ": %s\n", strerror(error));
	va_end(args);
	exit(111);
}

static void pass_on(int number) {
	if (f.root > 0)
		kill(f.root, number);
}

/* ---- tasks ---- */

static struct task *find(pid_t pid) {
	for (size_t i = 0; i < f.task_count; i++)
		if (f.tasks[i].pid == pid)
			return &f.tasks[i];
	return NULL;
}

static void look_at_program(struct task *t) {
	char link[64], path[PATH_MAX];
	snprintf(link, sizeof(link), "/proc/%ld/exe", (long)t->pid);
	ssize_t n = readlink(link, path, sizeof(path) - 1);
	path[n > 0 ? n : 0] = '\0';
	t->target = strcmp(path, f.program) == 0;
}

static struct task *add(pid_t pid) {
	if (f.task_count == TASKS_MAX) {
		errno = ENOMEM;
		fail("too many processes");
	}
	struct task *t = &f.tasks[f.task_count++];
	*t = (struct task){ .pid = pid };
	look_at_program(t);
	return t;
}

static void drop(pid_t pid) {
	struct task *t = find(pid);
	if (t)
		*t = f.tasks[--f.task_count];
}

/* ---- the act ---- */

static void finish(void) {
	f.done = true;
	for (size_t i = 0; i < f.task_count; i++)
		ptrace(PTRACE_INTERRUPT, f.tasks[i].pid, 0, 0);
}

static void tell(void) {
	struct timespec now;
	FILE *out = fopen(f.trace, "a");
	clock_gettime(CLOCK_MONOTONIC, &now);
	if (!out || fprintf(out, "acted %lld\n", (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000) < 0 || fclose(out) != 0)
		fail("cannot write %s", f.trace);
}

static void set_register(pid_t pid, size_t offset, unsigned long value) {
	if (ptrace(PTRACE_POKEUSER, pid, offset, value) < 0)
		fail("cannot set a register");
}

static void act(struct task *t, unsigned long count) {
	tell();
	switch (f.act) {
	case ACT_KILL:
		kill(t->pid, SIGKILL);
		finish();
		break;
	case ACT_SHORT:
		if (count > 1)
			set_register(t->pid, offsetof(struct user_regs_struct, rdx), count / 2);
		finish();
		break;
	default:
		set_register(t->pid, offsetof(struct user_regs_struct, orig_rax), (unsigned long)-1L);
		t->faked = true;
	}
}

static bool has_both_ends(pid_t pid, const struct stat *pipe) {
	char path[PATH_MAX];
	struct stat st;
	size_t ends = 0;
	snprintf(path, sizeof(path), "/proc/%ld/fd", (long)pid);
	DIR *dir = opendir(path);
	for (const struct dirent *entry; dir && (entry = readdir(dir)) != NULL;)
		ends += fstatat(dirfd(dir), entry->d_name, &st, 0) == 0 && st.st_ino == pipe->st_ino && st.st_dev == pipe->st_dev;
	if (dir)
		closedir(dir);
	return ends > 1;
}

static bool is_waited_for(pid_t pid, int descriptor) {
	char path[64], text[200];
	snprintf(path, sizeof(path), "/proc/%ld/fdinfo/%d", (long)pid, descriptor);
	FILE *in = fopen(path, "r");
	size_t n = in ? fread(text, 1, sizeof(text) - 1, in) : 0;
	if (in)
		fclose(in);
	text[n] = '\0';
	const char *flags = strstr(text, "flags:");
	return !flags || !(strtoul(flags + 6, NULL, 8) & O_NONBLOCK);
}

static enum kind kind_of(pid_t pid, uint64_t call, uint64_t descriptor) {
	static const uint64_t calls[] = { SYS_read, SYS_write, SYS_pread64, SYS_pwrite64, SYS_readv, SYS_writev, SYS_sendfile,
		SYS_splice, SYS_fsync, SYS_fdatasync };
	char path[64];
	struct stat st;
	size_t i = 0;
	while (i < sizeof(calls) / sizeof(calls[0]) && calls[i] != call)
		i++;
	if (i == sizeof(calls) / sizeof(calls[0]))
		return KIND_NONE;
	snprintf(path, sizeof(path), "/proc/%ld/fd/%d", (long)pid, (int)descriptor);
	if (stat(path, &st) < 0)
		return KIND_FILE;
	if (S_ISFIFO(st.st_mode))
		return has_both_ends(pid, &st) ? KIND_OWN : is_waited_for(pid, (int)descriptor) ? KIND_PIPE : KIND_FIFO;
	return S_ISSOCK(st.st_mode) ? KIND_SOCKET : KIND_FILE;
}

static void at_call(struct task *t) {
	struct __ptrace_syscall_info info;
	if (ptrace(PTRACE_GET_SYSCALL_INFO, t->pid, sizeof(info), &info) < 0)
		return;
	if (info.op == PTRACE_SYSCALL_INFO_EXIT && t->faked) {
		set_register(t->pid, offsetof(struct user_regs_struct, rax), (unsigned long)(long)-f.error);
		t->faked = false;
		finish();
	}
	if (info.op != PTRACE_SYSCALL_INFO_ENTRY || info.entry.nr >= CALLS_MAX || f.done)
		return;
	if (f.act != ACT_NONE && (long)info.entry.nr != f.call)
		return;
	enum kind kind = kind_of(t->pid, info.entry.nr, info.entry.args[0]);
	f.counts[info.entry.nr][kind]++;
	if (f.act != ACT_NONE && kind == f.kind && ++f.seen == (unsigned long)f.when)
		act(t, info.entry.args[2]);
}

/* ---- stops ---- */

static void go_on(const struct task *t, int number) {
	int how = f.done && !t->faked ? PTRACE_DETACH : t->target ? PTRACE_SYSCALL : PTRACE_CONT;
	pid_t pid = t->pid;
	if (ptrace(how, pid, 0, number) < 0 && errno != ESRCH)
		fail("cannot let a process go on");
	if (how == PTRACE_DETACH)
		drop(pid);
}

static void stopped(struct task *t, int status) {
	int number = WSTOPSIG(status), event = status >> 16;
	if (event == PTRACE_EVENT_EXEC)
		look_at_program(t);
	else if (number == (SIGTRAP | 0x80))
		at_call(t);
	go_on(t, event != 0 || number == (SIGTRAP | 0x80) ? 0 : number);
}

static void ended(pid_t pid, int status) {
	drop(pid);
	if (pid != f.root)
		return;
	f.root_ended = true;
	f.status = status;
	finish();
}

static void watch(void) {
	while (f.task_count > 0 || !f.root_ended) {
		int status;
		pid_t pid = waitpid(-1, &status, __WALL);
		if (pid < 0 && errno == EINTR)
			continue;
		if (pid < 0)
			break;
		struct task *t = find(pid);
		if (WIFSTOPPED(status))
			stopped(t ? t : add(pid), status);
		else
			ended(pid, status);
	}
}

/* ---- start ---- */

static void start(char **argv) {
	int gate[2];
	char octet;
	if (pipe(gate) < 0)
		fail("cannot make a pipe");
	pid_t pid = fork();
	if (pid == 0) {
		close(gate[1]);
		(void)!read(gate[0], &octet, 1);
		close(gate[0]);
		execv(argv[0], argv);
		_exit(127);
	}
	if (pid < 0 || ptrace(PTRACE_SEIZE, pid, 0, OPTIONS) < 0)
		fail("cannot trace");
	f.root = pid;
	add(pid);
	close(gate[0]);
	close(gate[1]);
}

static void write_counts(void) {
	FILE *out = fopen(f.trace, "a");
	if (!out)
		fail("cannot open %s", f.trace);
	if (f.act != ACT_NONE)
		fprintf(out, "seen %lu\n", f.seen);
	for (size_t i = 0; f.act == ACT_NONE && i < CALLS_MAX; i++)
		for (size_t kind = 0; kind < KINDS; kind++)
			if (f.counts[i][kind] > 0)
				fprintf(out, "%zu %s %lu\n", i, kind_names[kind], f.counts[i][kind]);
	if (fclose(out) != 0)
		fail("cannot write %s", f.trace);
}

static void take_kind(const char *word) {
	for (size_t kind = 0; kind < KINDS; kind++)
		if (strcmp(word, kind_names[kind]) == 0)
			f.kind = (enum kind)kind;
}

static void take_action(const char *word) {
	f.act = strcmp(word, "kill") == 0 ? ACT_KILL : strcmp(word, "short") == 0 ? ACT_SHORT : ACT_ERROR;
	f.error = (int)strtol(word, NULL, 10);
}

int main(int argc, char **argv) {
	int option;
	while ((option = getopt(argc, argv, "+x:o:s:k:n:a:")) != -1) {
		switch (option) {
		case 'x': f.program = optarg; break;
		case 'o': f.trace = optarg; break;
		case 's': f.call = strtol(optarg, NULL, 10); break;
		case 'k': take_kind(optarg); break;
		case 'n': f.when = strtol(optarg, NULL, 10); break;
		case 'a': take_action(optarg); break;
		default: return 100;
		}
	}
	if (!f.program || !f.trace || optind == argc) {
		fprintf(stderr, "usage: fault -x PROGRAM -o TRACE [-s NR -k KIND -n K -a kill|short|ERRNO] COMMAND...\n");
		return 100;
	}
	signal(SIGTERM, pass_on);
	signal(SIGHUP, pass_on);
	start(argv + optind);
	watch();
	if (f.act == ACT_NONE || f.seen < (unsigned long)f.when)
		write_counts();
	return WIFEXITED(f.status) ? WEXITSTATUS(f.status) : 128 + WTERMSIG(f.status);
}
