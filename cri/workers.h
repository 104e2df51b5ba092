/* Threads for what blocks: one a job, made when none is idle, gone after a while without work. Their number has a bound, so that a client that asks
 * for everything at once gets a refusal and not the machine's memory. Any thread may call. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct workers;

/* A job lies in whatever it is about; `run` may free it. */
struct job {
    struct job *next;
    void (*run)(struct job *job);
};

struct workers *workers_new(size_t most);
/* False when `most` jobs run or wait already, or no thread can be made: the job was not taken. */
bool workers_run(struct workers *workers, struct job *job);
/* Wait until nothing runs and the threads are gone, but not beyond deadline_ns (monotonic). True, and everything is freed, if they are; else false:
 * what still runs goes on, and `workers` stays. */
bool workers_stop(struct workers *workers, int64_t deadline_ns);
