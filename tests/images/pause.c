/* Sleeps until it is told to end, and reaps whatever it inherits as pid 1. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void
end(int signal_number)
{
    (void)signal_number;
    _exit(0);
}

static void
reap(int signal_number)
{
    (void)signal_number;
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
}

int
main(void)
{
    signal(SIGTERM, end);
    signal(SIGINT, end);
    signal(SIGCHLD, reap);
    for (;;)
        pause();
}
