<?php
// phpmailer.php raw|made PORT DIRECTORY FROM TO [CC BCC]
require '/usr/share/php/libphp-phpmailer/autoload.php';

use PHPMailer\PHPMailer\PHPMailer;
use PHPMailer\PHPMailer\SMTP;

[, $how, $port, $directory, $from] = $argv;
$to = array_slice($argv, 5);

function must($ok, $what)
{
    if (!$ok) {
        fwrite(STDERR, "$what\n");
        exit(1);
    }
}

if ($how === 'raw') {
    $smtp = new SMTP();
    must($smtp->connect('127.0.0.1', (int) $port), 'connect');
    must($smtp->hello('client.example'), 'EHLO');
    must($smtp->mail($from), 'MAIL');
    foreach ($to as $address) {
        must($smtp->recipient($address), 'RCPT');
    }
    must($smtp->data(file_get_contents("$directory/message")), 'DATA');
    $smtp->quit();
    exit(0);
}
$mail = new PHPMailer(true);
$mail->isSMTP();
$mail->Host = '127.0.0.1';
$mail->Port = (int) $port;
$mail->CharSet = 'utf-8';
$mail->Encoding = '8bit';
$login = getenv('LOGIN');
if ($login) {
    $mail->SMTPAuth = true;
    $mail->AuthType = getenv('MECHANISM') ?: '';
    [$mail->Username, $mail->Password] = explode(':', $login, 2);
}
$mail->setFrom($from);
$mail->addAddress($to[0]);
if (isset($to[1])) {
    $mail->addCC($to[1]);
    $mail->addBCC($to[2]);
}
$mail->Subject = getenv('SUBJECT');
$mail->Body = file_get_contents("$directory/text");
$mail->AllowEmpty = true;
if (file_exists("$directory/blob.bin")) {
    $mail->addAttachment("$directory/blob.bin");
}
$mail->send();
