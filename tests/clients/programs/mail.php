<?php
// mail.php DIRECTORY FROM TO [CC BCC]: mail(), with a fifth argument if
// SENDER is in the environment.
[, $directory, $from] = $argv;
$to = array_slice($argv, 3);
$headers = "From: $from\nMIME-Version: 1.0\n"
    . "Content-Type: text/plain; charset=utf-8\n"
    . "Content-Transfer-Encoding: 8bit";
if (isset($to[1])) {
    $headers .= "\nCc: $to[1]\nBcc: $to[2]";
}
$sender = getenv('SENDER');
exit(mail(
    $to[0],
    getenv('SUBJECT'),
    file_get_contents("$directory/text"),
    $headers,
    $sender ? "-f$sender" : ''
) ? 0 : 1);
