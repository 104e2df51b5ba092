/* Threads of this folder: named for ps(1), with every signal blocked (crispd's are its own). */
#pragma once

#include <pthread.h>

#include "base/error.h"

int worker_start(pthread_t *thread, void *(*run)(void *), void *data, const char *name, struct error *err);
