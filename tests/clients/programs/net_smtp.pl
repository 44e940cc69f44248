# net_smtp.pl PORT DIRECTORY FROM TO...: sends DIRECTORY/message.
use strict;
use warnings;
use Net::SMTP;

my ($port, $directory, $from, @to) = @ARGV;
open(my $file, '<:raw', "$directory/message") or die "message: $!";
my @lines = <$file>;
my $smtp = Net::SMTP->new('127.0.0.1', Port => $port, Timeout => 30)
    or die "connect: $@";
if (my $login = $ENV{LOGIN}) {
	$smtp->auth(split(/:/, $login, 2)) or die 'AUTH: ' . $smtp->message;
}
$smtp->mail($from) or die 'MAIL: ' . $smtp->message;
$smtp->to(@to) or die 'RCPT: ' . $smtp->message;
$smtp->data(@lines) or die 'DATA: ' . $smtp->message;
$smtp->quit;
