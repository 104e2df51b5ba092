#include "ctl/interrupt.h"

#include <signal.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Set before the handler is installed; a handler has nothing else to know it by. */
static int event = -1;

static void
notify(int number)
{
    int saved = errno;
    const uint64_t one = 1;
    (void)number;
    (void)!write(event, &one, sizeof one);
    errno = saved;
}

int
interrupt_catch(struct error *err)
{
    const struct sigaction action = {.sa_handler = notify, .sa_flags = SA_RESTART};
    event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    /* A reader of our output who leaves is then an error like others, after which there is still something to clean up. */
    (void)signal(SIGPIPE, SIG_IGN);
    if (event < 0 || sigaction(SIGINT, &action, NULL) < 0 || sigaction(SIGTERM, &action, NULL) < 0)
        return error_errno(err, errno, "catching signals");
    return event;
}
