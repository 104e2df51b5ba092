#include "runtime/network/worker.h"

#include <signal.h>

int
worker_start(pthread_t *thread, void *(*run)(void *), void *data, const char *name, struct error *err)
{
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int errnum = pthread_create(thread, NULL, run, data);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (errnum)
        return error_errno(err, errnum, "start thread %s", name);
    (void)pthread_setname_np(*thread, name);
    return 0;
}
