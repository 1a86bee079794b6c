/*
 * start - what starting a program costs: start ROUNDS BATCH PROGRAM [ARGUMENT ...] [-- PROGRAM ...] ...
 *
 * Every round starts each program BATCH times, one after the other, with /dev/null as its standard descriptors; so the programs take turns and
 * share what else the machine does. Prints for each the median over the rounds of its CPU time, the same of ours (the spawn, the wait), and
 * page faults. At most 20 programs.
 */
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define PROGRAMS 20

struct program { char **argv; double *child_us, *own_us; long faults; int status; };

extern char **environ;

static double cpu_us(const struct rusage *r) {
	return (double)(r->ru_utime.tv_sec + r->ru_stime.tv_sec) * 1e6 + (double)(r->ru_utime.tv_usec + r->ru_stime.tv_usec);
}

static void run(struct program *p, int batch, int round, const posix_spawn_file_actions_t *files) {
	struct rusage child[2], own[2];
	getrusage(RUSAGE_CHILDREN, &child[0]);
	getrusage(RUSAGE_SELF, &own[0]);
	for (int i = 0; i < batch; i++) {
		pid_t pid;
		if (posix_spawn(&pid, p->argv[0], files, NULL, p->argv, environ) != 0 || waitpid(pid, &p->status, 0) != pid) {
			fprintf(stderr, "start: cannot run %s\n", p->argv[0]);
			exit(111);
		}
	}
	getrusage(RUSAGE_CHILDREN, &child[1]);
	getrusage(RUSAGE_SELF, &own[1]);
	p->child_us[round] = (cpu_us(&child[1]) - cpu_us(&child[0])) / batch;
	p->own_us[round] = (cpu_us(&own[1]) - cpu_us(&own[0])) / batch;
	p->faults += child[1].ru_minflt - child[0].ru_minflt;
}

static int compare(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double median(double *at, int n) {
	qsort(at, (size_t)n, sizeof *at, compare);
	return at[n / 2];
}

int main(int argc, char **argv) {
	struct program program[PROGRAMS] = { 0 };
	posix_spawn_file_actions_t files;
	int rounds = argc > 3 ? (int)strtol(argv[1], NULL, 10) : 0, batch = argc > 3 ? (int)strtol(argv[2], NULL, 10) : 0, count = 0;
	if (rounds < 1 || batch < 1) {
		fprintf(stderr, "usage: start ROUNDS BATCH PROGRAM [ARGUMENT ...] [-- PROGRAM ...] ...\n");
		return 100;
	}
	program[count++].argv = argv + 3;
	for (int i = 3; i + 1 < argc && count < PROGRAMS; i++)
		if (strcmp(argv[i], "--") == 0) {
			argv[i] = NULL;
			program[count++].argv = argv + i + 1;
		}
	posix_spawn_file_actions_init(&files);
	for (int fd = 0; fd < 3; fd++)
		posix_spawn_file_actions_addopen(&files, fd, "/dev/null", O_RDWR, 0);
	for (int i = 0; i < count; i++) {
		program[i].child_us = calloc((size_t)rounds, sizeof(double));
		program[i].own_us = calloc((size_t)rounds, sizeof(double));
	}
	for (int round = 0; round < rounds; round++)
		for (int i = 0; i < count; i++)
			run(&program[i], batch, round, &files);
	for (int i = 0; i < count; i++)
		printf("%s: status %d, %.0f us of CPU, %.0f of ours, %.1f page faults\n", program[i].argv[0], WEXITSTATUS(program[i].status),
			median(program[i].child_us, rounds), median(program[i].own_us, rounds), (double)program[i].faults / rounds / batch);
	return 0;
}
